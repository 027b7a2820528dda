"""One job script template per batch system, and the shell that guards a program.

Templates are Jinja2. All values that they print are shell-quoted unless a filter tells otherwise
(`zwrap.submission.template`). A site extends one of them: ``{% extends "zwrap/local.sh.j2" %}``.
"""
