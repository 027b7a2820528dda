"""Metadata, package map, entry points and console scripts of zwrap."""

import runpy
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
OWN_PARTS = runpy.run_path(str(HERE / "zwrap" / "plugins.py"))["OWN"]

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
        "zwrap.program": ["*.yaml"],
        "zwrap_templates": ["py.typed", "*.j2", "*.sh"],
        "zwrap_schedulers": ["py.typed"],
    },
    # Each lower bound is the lowest version that works: `scripts/test --lowest` tries them all.
    install_requires=[
        "Jinja2>=3.1",
        "PyYAML>=6.0",
        "SQLAlchemy>=2.0",
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
        # The program behind the demo and the integration tests.
        "demo": ["gemmi-program>=0.7"],
    },
    entry_points={
        "console_scripts": [
            "zwrap = zwrap.cli.zwrap:main",
            "amqp-dispatcher = zwrap.cli.amqp_dispatcher:main",
            "zocalo.go = zwrap.cli.go:main",
            "zocalo.wrap = zwrap.cli.start:wrap",
            "zocalo.service = zwrap.cli.start:service",
            "zocalo.shutdown = zwrap.cli.shutdown:main",
            "zocalo.pickup = zwrap.cli.pickup:main",
            "zocalo.queue_drain = zwrap.cli.queue_drain:main",
            "zocalo.queue_monitor = zwrap.cli.monitor:queue_monitor",
            "zocalo.status_monitor = zwrap.cli.monitor:status_monitor",
            "zocalo.configure_rabbitmq = zwrap.cli.configure_rabbitmq:main",
            "zocalo.dlq_check = zwrap.cli.dlq_check:main",
            "zocalo.dlq_purge = zwrap.cli.dlq_purge:main",
            "zocalo.dlq_reinject = zwrap.cli.dlq_reinject:main",
        ],
        **{
            group: [f"{name} = {target}" for name, target in parts.items()]
            for group, parts in OWN_PARTS.items()
            if parts
        },
    },
    classifiers=[
        "License :: OSI Approved :: BSD License",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3 :: Only",
        "Topic :: Scientific/Engineering",
        "Typing :: Typed",
    ],
)
