"""Station "template": the text of a job script for a job request.

Every printed value is shell-quoted unless a filter tells that it is something else:

``shell``      shell text by definition (the commands of a recipe)
``directive``  a word on a directive line; refused if it could end the line
``variable``   the name of an environment variable
``comment``    text in a comment
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import jinja2
import jinja2.sandbox
import msgspec
import zwrap_templates

from zwrap.errors import TemplateError, UnknownNameError
from zwrap.job import JobRequest, Resources
from zwrap.recipe.directives import shell_word

SHIPPED = Path(zwrap_templates.__file__).parent

ARRAY = "array.sh.j2"
"""Template of the script of an array, which is not a job script."""


class _Verbatim(str):
    """Text that is printed without quoting."""

    __slots__ = ()


def _finalize(value: object) -> str:
    """Quote a value that a template prints, of which no line may become a directive."""
    return value if isinstance(value, _Verbatim) else shell_word(str(value))


def _shell(value: str) -> _Verbatim:
    """Print shell text."""
    return _Verbatim(value)


def _directive(value: object) -> _Verbatim:
    """Print one word of a directive line."""
    text = str(value)
    if not text or re.search(r"[\x00-\x20\x7f\x85\u2028\u2029'\"\\#]", text):
        raise TemplateError(
            f"{text!r} cannot be on a directive line: one word is expected, without blanks, "
            "quotes, '#', backslashes and control characters (it could add further directives)."
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


class _Asked:
    """The resources of a job, for a template, with a note of those that it looks at."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self.seen: set[str] = set()

    def __getattr__(self, name: str) -> object:
        if name.startswith("_"):
            raise AttributeError(name)
        self.seen.add(name)
        return getattr(self._resources, name)


class _Sandbox(jinja2.sandbox.ImmutableSandboxedEnvironment):
    """An environment in which a template can only read the values that it is given."""

    def getattr(self, obj: object, attribute: str) -> object:
        """Return an attribute, without the slow checks if it is a field of a plain value."""
        if isinstance(obj, _Asked) and attribute in Resources.__struct_fields__:
            return getattr(obj, attribute)
        if isinstance(obj, msgspec.Struct) and attribute in obj.__struct_fields__:
            return getattr(obj, attribute)
        return super().getattr(obj, attribute)


class Templates:
    """The templates of a site: its own, which come first, those of a plug-in, and those of zwrap.

    Args:
        site_directory: Directory of the site's own templates; None: it has none.
        brought: Directory of those that a batch system brings; None: it brings none.
    """

    def __init__(self, site_directory: Path | None = None, brought: Path | None = None) -> None:
        shipped = jinja2.FileSystemLoader(SHIPPED)
        own = [jinja2.FileSystemLoader(each) for each in (site_directory, brought) if each]
        loaders = [*own, jinja2.PrefixLoader({"zwrap": shipped}), shipped]
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
        """Return a template; UnknownNameError or TemplateError if it cannot be read."""
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
        private: Collection[Path] = (),
        *,
        lenient_setup: bool = False,
        needed: Collection[str] = (),
    ) -> str:
        """Return the job script.

        Args:
            name: File name of the template.
            request: The job.
            options: Options of the cluster.
            programs: Paths of programs that the job finds by their names.
            files: Path to the content of each file that the script writes, after it has created its
                directories: for nodes that share no filesystem with this host. None: it writes
                none.
            private: Those of the files that only the user of the job may read.
            lenient_setup: True if the job goes on after a line of its set-up that failed.
            needed: Resources for which the template must have lines if the job asks for them.

        Raises:
            UnknownNameError: There is no such template.
            TemplateError: The template cannot be rendered, or has no line for a resource; the text
                names template and value.
        """
        asked = _Asked(request.resources)
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
            "resources": asked,
            "template": request.values,
            "task": request.task,
            "lenient_setup": lenient_setup,
            "options": options,
            "programs": programs,
            "files": files,
            "private": private,
            "commands": request.commands,
        }
        text = self._rendered(name, values)
        nothing = Resources()
        for key in sorted({*needed} - asked.seen):
            if getattr(request.resources, key) != getattr(nothing, key):
                raise TemplateError(
                    f"Template {name} has no line for {key!r}, which the step asks for: extend the "
                    'template of zwrap ({% extends "zwrap/..." %}), add a line for it, or remove '
                    "the key."
                )
        return text

    def render_array(
        self,
        token: str,
        *,
        interpreter: str,
        directives: Sequence[str],
        jobs: Sequence[JobRequest],
        task: str,
    ) -> str:
        """Return the script of an array of these jobs, each of which has its own script.

        `interpreter` and `directives` are those that all these scripts share; `task` is the
        environment variable that holds the number of a task, from 1.
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
        """Return the text of a rendered template; TemplateError names the fault."""
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
