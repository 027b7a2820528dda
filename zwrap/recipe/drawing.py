"""Pictures of a recipe: a tree for the terminal and DOT for Graphviz."""

from __future__ import annotations

from rich.text import Text
from rich.tree import Tree

from zwrap.host.hiding import shown
from zwrap.recipe.destinations import NAMED
from zwrap.recipe.graph import Recipe


def label(recipe: Recipe, number: int) -> str:
    """Return the label of a node: its number, service or task, queue and topic."""
    node = recipe.node(number)
    wrapper = node.get("wrapper")
    task = wrapper.get("task_information") if isinstance(wrapper, dict) else None
    name = node.get("service") or task
    where = [f"{kind} {node[kind]}" for kind in NAMED if node.get(kind)]
    return " · ".join([str(number), *([str(name)] if name else []), *where])


def tree(recipe: Recipe) -> Tree:
    """Return the recipe as a tree; the branches of each node are drawn once."""
    root = Tree(Text(shown(recipe.name)), guide_style="dim")
    drawn: set[int] = set()

    def grow(branch: Tree, number: int, output: str) -> None:
        text = Text.assemble((shown(output), "cyan"), " → ", shown(label(recipe, number)))
        if number in drawn:
            branch.add(text.append(" (above)", "dim"))
            return
        drawn.add(number)
        twig = branch.add(text)
        for name, target in recipe.targets(number):
            grow(twig, target, name)

    for number, _ in recipe.start:
        grow(root, number, "start")
    for number in recipe.error:
        grow(root, number, "error")
    return root


def dot(recipe: Recipe) -> str:
    """Return the recipe in the DOT language (graphviz.org/doc/info/lang.html)."""

    def quoted(text: str) -> str:
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'

    lines = [f"digraph {quoted(recipe.name)} {{", "  start [shape=circle];"]
    lines += [f"  {number} [label={quoted(label(recipe, number))}];" for number in recipe.nodes]
    lines += [f"  start -> {number};" for number, _ in recipe.start]
    for number in recipe.nodes:
        for name, target in recipe.targets(number):
            style = ", style=dashed" if name.startswith("error") else ""
            lines.append(f"  {number} -> {target} [label={quoted(name)}{style}];")
    return "\n".join([*lines, "}"])
