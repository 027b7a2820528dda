"""Station "template": from a job request to the text of a job script.

Every printed value is shell-quoted unless a filter says what else it is:

``shell``      shell text by definition (the commands of a recipe)
``directive``  a word on a directive line: refused when it could end the line
``variable``   the name of an environment variable
``comment``    text in a comment
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

import jinja2
import jinja2.sandbox
import msgspec
import zwrap_templates

from zwrap.errors import TemplateError, UnknownNameError
from zwrap.job import JobRequest

SHIPPED = Path(zwrap_templates.__file__).parent

ARRAY = "array.sh.j2"
"""Template of the script of an array, which is not one of a job."""


class _Verbatim(str):
    """Text that is printed as it is."""

    __slots__ = ()


def _finalize(value: object) -> str:
    """Quote what a template prints."""
    return value if isinstance(value, _Verbatim) else shlex.quote(str(value))


def _shell(value: str) -> _Verbatim:
    """Print shell text."""
    return _Verbatim(value)


def _directive(value: object) -> _Verbatim:
    """Print one word of a directive line."""
    text = str(value)
    if not text or re.search(r"[\x00-\x20\x7f'\"\\#]", text):
        raise TemplateError(
            f"{text!r} cannot stand on a directive line: one word is expected, without blanks, "
            "quotes, '#', backslashes and control characters (it could give directives of its own)."
        )
    return _Verbatim(text)


def _variable(value: object) -> _Verbatim:
    """Print the name of an environment variable."""
    name = str(value)
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise TemplateError(
            f"{name!r} is not a valid name of an environment variable: letters, digits and '_' are "
            "expected, not beginning with a digit."
        )
    return _Verbatim(name)


def _comment(value: object) -> _Verbatim:
    """Print text in a comment; control characters, which could end it, become "?"."""
    return _Verbatim(re.sub(r"[\x00-\x1f\x7f]", "?", str(value)))


class _Sandbox(jinja2.sandbox.ImmutableSandboxedEnvironment):
    """An environment in which a template cannot do anything but read what it is given."""

    def getattr(self, obj: object, attribute: str) -> object:
        """Return an attribute; of plain values without checks, which cost more than the rest."""
        if isinstance(obj, msgspec.Struct) and attribute in obj.__struct_fields__:
            return getattr(obj, attribute)
        return super().getattr(obj, attribute)


class Templates:
    """The templates that a site can use: the shipped ones, and its own, which come first."""

    def __init__(self, site_directory: Path | None = None) -> None:
        shipped = jinja2.FileSystemLoader(SHIPPED)
        loaders: list[jinja2.BaseLoader] = [jinja2.PrefixLoader({"zwrap": shipped}), shipped]
        if site_directory is not None:
            loaders.insert(0, jinja2.FileSystemLoader(site_directory))
        self._environment = _Sandbox(
            loader=jinja2.ChoiceLoader(loaders),
            undefined=jinja2.StrictUndefined,
            finalize=_finalize,
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
            autoescape=False,
        )
        self._environment.filters.update(
            shell=_shell, directive=_directive, variable=_variable, comment=_comment
        )

    def names(self) -> list[str]:
        """Return the names of all templates of job scripts."""
        return sorted(
            name
            for name in self._environment.list_templates()
            if name.endswith(".j2") and not name.startswith("zwrap/") and name != ARRAY
        )

    def check(self, name: str) -> None:
        """Raise UnknownNameError or TemplateError for a template that cannot be read."""
        self._get(name)

    def _get(self, name: str) -> jinja2.Template:
        """Read a template."""
        try:
            return self._environment.get_template(name)
        except jinja2.TemplateNotFound as error:
            raise UnknownNameError("template", error.name, self.names(), f"in {name}") from None
        except jinja2.TemplateSyntaxError as error:
            where = error.filename or name
            raise TemplateError(
                f"Template {where}, line {error.lineno}: {error.message}."
            ) from None

    def render(
        self,
        name: str,
        request: JobRequest,
        options: object = None,
        programs: Sequence[Path] = (),
        files: Mapping[Path, str] | None = None,
    ) -> str:
        """Return the job script, which finds `programs` by their names.

        With `files` it runs where nothing of this host is seen: it makes its directories, and
        writes these. `options` are those of the cluster.

        Raises UnknownNameError for a template that is not there, and TemplateError that says which
        template and which value is at fault.
        """
        values = {
            "job_name": request.job_name,
            "full_name": request.full_name,
            "token": request.token,
            "cluster": request.cluster,
            "working_directory": request.working_directory,
            "job_directory": request.job_directory,
            "standard_output": request.standard_output,
            "standard_error": request.standard_error,
            "environment": request.environment,
            "resources": request.resources,
            "options": options,
            "programs": programs,
            "files": files,
            "commands": request.commands,
        }
        return self._rendered(name, values)

    def render_array(
        self,
        token: str,
        *,
        interpreter: str,
        directives: Sequence[str],
        jobs: Sequence[JobRequest],
        task: str,
    ) -> str:
        """Return the script of an array of these jobs, each of which has a script of its own.

        `interpreter` and `directives` are those of the scripts, which are alike in them; `task` is
        the environment variable that tells a task its number, from 1 on.
        """
        values = {
            "token": token,
            "interpreter": interpreter,
            "directives": directives,
            "jobs": jobs,
            "task": task,
        }
        return self._rendered(f"zwrap/{ARRAY}", values)

    def _rendered(self, name: str, values: Mapping[str, object]) -> str:
        """Render a template."""
        template = self._get(name)
        try:
            return template.render(values)
        except TemplateError as error:
            raise TemplateError(f"Template {name}: {error}") from None
        except jinja2.TemplateNotFound as error:
            raise UnknownNameError("template", error.name, self.names(), f"in {name}") from None
        except jinja2.TemplateError as error:
            raise TemplateError(f"Template {name} cannot be rendered: {error.message}.") from None
        except Exception as error:  # an expression of the template failed as Python does
            kind = type(error).__name__
            raise TemplateError(f"Template {name} cannot be rendered: {kind}: {error}.") from None
