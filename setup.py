"""Metadata, package map, entry points and console scripts of zwrap."""

from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent

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
        "zwrap_templates",
    ],
    package_dir={"zwrap_schedulers": "schedulers", "zwrap_templates": "templates"},
    package_data={
        "zwrap": ["py.typed"],
        "zwrap.program": ["*.yaml"],
        "zwrap_templates": ["py.typed", "*.j2", "*.sh"],
        "zwrap_schedulers": ["py.typed"],
    },
    install_requires=[
        "Jinja2>=3.1",
        "PyYAML>=6.0",
        "SQLAlchemy>=2.0",
        "msgspec>=0.18",
        "psutil>=5.9",
        "rich>=13",
    ],
    extras_require={
        # The program behind the demo and the integration tests.
        "demo": ["gemmi-program>=0.7"],
    },
    entry_points={
        "console_scripts": [
            "zwrap = zwrap.cli.zwrap:main",
            "zocalo.go = zwrap.cli.go:main",
            "zocalo.wrap = zwrap.cli.wrap:main",
            "zocalo.service = zwrap.cli.service:main",
            "zocalo.shutdown = zwrap.cli.shutdown:main",
        ],
        "zwrap.schedulers": [
            "local = zwrap_schedulers.local:Local",
        ],
        "workflows.transport": [
            "SpoolTransport = zwrap.transport.spool:SpoolTransport",
        ],
        "workflows.services": [
            "Dispatcher = zwrap.service.dispatcher:Dispatcher",
            "Submitter = zwrap.service.submitter:Submitter",
        ],
        "zocalo.wrappers": [
            "dummy = zwrap.wrapper.base:DummyWrapper",
        ],
        # Sites hang their own functions into the Dispatcher through two further groups,
        # zocalo.services.dispatcher.ready_for_processing and zocalo.services.dispatcher.filters;
        # these two lines are the filters that every Dispatcher runs after them.
        "zwrap.dispatcher.filters": [
            "custom_recipe = zwrap.service.filters:load_custom_recipe",
            "recipe_files = zwrap.service.filters:load_recipes_from_files",
        ],
        "zocalo.configuration.plugins": [
            "storage = zwrap.configuration.plugins:Storage",
            "logging = zwrap.configuration.plugins:Logging",
            "transport = zwrap.configuration.plugins:Transport",
            "spool = zwrap.configuration.plugins:Spool",
        ],
    },
    classifiers=[
        "License :: OSI Approved :: BSD License",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3 :: Only",
        "Topic :: Scientific/Engineering",
        "Typing :: Typed",
    ],
)
