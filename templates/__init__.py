"""One job script template per batch system, and the shell that guards a program.

Templates are Jinja2. What they print is shell-quoted unless a filter says otherwise
(`zwrap.submission.template`). A site extends one of them: ``{% extends "zwrap/local.sh.j2" %}``.
"""
