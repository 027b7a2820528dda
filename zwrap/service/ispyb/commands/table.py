"""The table of commands: what the ISPyB service takes, by name."""

from __future__ import annotations

from collections.abc import Mapping

from zwrap.errors import MessageError, UnknownNameError
from zwrap.service.ispyb.commands import (
    acquisition,
    attachments,
    buffering,
    images,
    jobs,
    phasing,
    processing,
    reduction,
    refinement,
    retrieving,
    screening,
)
from zwrap.service.ispyb.contract import Command

MULTIPART = "multipart_message"
"""Command with a list of commands, ``ispyb_command_list``; `message` takes it apart."""

MICROSCOPY = frozenset(
    {
        "insert_class2d",
        "insert_class3d",
        "insert_cryoem_initial_model",
        "insert_ctf",
        "insert_motion_correction",
        "insert_movie",
        "insert_particle_classification",
        "insert_particle_classification_group",
        "insert_particle_picker",
        "insert_relative_ice_thickness",
        "insert_tilt_image_alignment",
        "insert_tomogram",
    }
)
"""Commands of Diamond's service for electron microscopy, which this service does not take."""


class UnknownCommandError(UnknownNameError, MessageError):
    """A message has a command that the service does not take."""


def command(name: str, where: str = "") -> Command:
    """Return the command of a name; `where` says where it stands.

    Raises:
        UnknownCommandError: There is none.
        MessageError: It is a list of commands, inside a command.
    """
    if name == MULTIPART:
        raise MessageError(
            f"Command {MULTIPART!r} cannot be inside another command{f' ({where})' * bool(where)}."
        )
    found = COMMANDS.get(name)
    if found is None:
        further = f"{name} is of electron microscopy, and not taken." if name in MICROSCOPY else ""
        known = [*COMMANDS, MULTIPART]
        raise UnknownCommandError("ISPyB command", name, known, where, further)
    return found


_ALL = (
    processing.REGISTERED,
    processing.STATUS,
    processing.NAME,
    processing.MESSAGE,
    attachments.PROGRAM_FILE,
    attachments.COLLECTION_FILE,
    reduction.SOLUTION,
    reduction.SCALING,
    reduction.INTEGRATION,
    reduction.REGISTERED_INTEGRATION,
    jobs.JOB,
    screening.SCREENING,
    screening.INPUT,
    screening.OUTPUT,
    screening.LATTICE,
    screening.STRATEGY,
    screening.WEDGE,
    screening.SUB_WEDGE,
    refinement.DIMPLE_RESULT,
    refinement.DIMPLE_RESULTS,
    refinement.DIMPLE_FAILURE,
    refinement.METAL_ID_RESULT,
    refinement.RUN,
    refinement.BLOB,
    phasing.PHASING,
    attachments.MODELS,
    images.QUALITY,
    images.CENTRING,
    acquisition.GROUP,
    acquisition.COLLECTION,
    acquisition.SNAPSHOTS,
    retrieving.RUNS,
    retrieving.FILES,
    retrieving.TITLE,
    buffering.buffer(command),
)

COMMANDS: Mapping[str, Command] = {each.name: each for each in _ALL}
"""Name of a command to the command."""
