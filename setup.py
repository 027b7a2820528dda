"""Metadata, package map, entry points and console scripts of zwrap."""

import sys
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from zwrap.plugins.registry import OWN, PUBLISHED  # noqa: E402 - imports nothing that is to be installed

setup(
    name="zwrap",
    version="0.1.0",
    description="A wrapper-centric Zocalo for batch clusters",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="BSD-3-Clause",
    license_files=["LICENSE"],
    python_requires=">=3.11",
    packages=[
        *find_packages(include=["zwrap", "zwrap.*"]),
        "zwrap_schedulers",
        "zwrap_schedulers.sge",
        "zwrap_schedulers.slurm",
        "zwrap_templates",
    ],
    package_dir={"zwrap_schedulers": "schedulers", "zwrap_templates": "templates"},
    package_data={
        "zwrap": ["py.typed"],
        "zwrap.program": ["shipped/*.yaml", "shipped/errors/*.yaml"],
        "zwrap_templates": ["py.typed", "*.j2", "*.sh"],
        "zwrap_schedulers": ["py.typed"],
    },
    # Each lower bound is the lowest version that works: `scripts/test --lowest` tries them all.
    install_requires=[
        "Jinja2>=3.1",
        "PyYAML>=6.0",
        "SQLAlchemy>=2.0",
        "alembic>=1.9",
        "drmaa>=0.7.9",
        "graypy>=2.1",
        "httpcore>=1.0",
        "httpx>=0.25.1",
        "msgspec>=0.18.6",
        "pika>=1.2",
        "stomp.py>=9.0",
        "regex>=2023.8.8",
        "psutil>=5.9.4",
        "rich>=13",
    ],
    extras_require={
        "postgresql": ["psycopg[binary]>=3.1.4"],
        # The tables of ISPyB as types, with the database driver of their authors.
        "ispyb": ["ispyb>=12.1"],
        # The parsers of MTZ and CIF files.
        "gemmi": ["gemmi>=0.6.5"],
        # The program behind the demo and the integration tests.
        "demo": ["gemmi-program>=0.7"],
    },
    entry_points={
        group: [f"{name} = {target}" for name, target in OWN[group].items()] for group in PUBLISHED
    },
    classifiers=[
        "License :: OSI Approved :: BSD License",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3 :: Only",
        "Topic :: Scientific/Engineering",
        "Typing :: Typed",
    ],
)
