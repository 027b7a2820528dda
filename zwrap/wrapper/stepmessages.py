"""Messages of a step that a definition runs: result files, outputs, further messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from zwrap.message.content import Outgoing
from zwrap.program import judgement
from zwrap.program.definition import Definition
from zwrap.program.judgement import ResultRecord
from zwrap.recipe.envelope import Envelope


def parsed_messages(
    envelope: Envelope,
    definition: Definition,
    known: Mapping[str, object],
    parsed: Mapping[str, object],
    records: list[ResultRecord],
) -> list[Outgoing]:
    """Return the messages of a success with what was parsed, and those made of it.

    Args:
        envelope: The step.
        definition: The definition.
        known: Values of the placeholders, by name.
        parsed: Parsed outputs, by name.
        records: Result files.

    Raises:
        ProgramError: A message cannot be made of what was parsed.
    """
    if not definition.outputs and not definition.messages:
        return []
    from zwrap.program.keys.messages import outgoing  # not for a failure

    values = {**known, "files": judgement.file_list(records), "result_files": records}
    return [
        message
        for each in outgoing(definition, values, parsed)
        for message in envelope.send(each.channel, each.payload)
    ]


def result_messages(
    envelope: Envelope, records: list[ResultRecord], parsed: Sequence[Outgoing]
) -> list[Outgoing]:
    """Return all messages with results in the order in which they are sent.

    Args:
        envelope: The step.
        records: Result files.
        parsed: The messages with what was parsed; none after a failure.
    """
    send = envelope.send
    messages = [message for record in records for message in send("result-individual-file", record)]
    messages += parsed
    if records:
        files: dict[str, object] = {"filelist": judgement.file_list(records)}
        if any("partial" in record for record in records):
            files["partial"] = True
        messages += send("result-all-files", files)
    return messages
