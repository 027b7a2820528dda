"""Messages of a step that a definition runs: result files, outputs, further messages."""

from __future__ import annotations

from collections.abc import Mapping

from zwrap.message.content import Outgoing
from zwrap.program import invocation, judgement
from zwrap.program.definition import Definition
from zwrap.program.judgement import ResultRecord
from zwrap.recipe.envelope import Envelope


def result_messages(
    envelope: Envelope,
    definition: Definition,
    known: Mapping[str, object],
    parsed: Mapping[str, object],
    records: list[ResultRecord],
    *,
    failed: bool,
) -> list[Outgoing]:
    """Return the messages with the results, in the order in which they are sent.

    Args:
        envelope: The step.
        definition: The definition.
        known: Values of the placeholders, by name.
        parsed: Parsed outputs, by name.
        records: Result files.
        failed: True if the step failed.
    """
    send = envelope.send
    messages = [message for record in records for message in send("result-individual-file", record)]
    if not failed:
        values = {**known, **parsed, "files": judgement.file_list(records)}
        for name, output in definition.outputs.items():
            if name in parsed and not known.get(output.unless or ""):
                messages += send(output.channel or name, parsed[name])
        for channel, payload in invocation.messages(definition, values).items():
            messages += send(channel, payload)
    if records:
        files: dict[str, object] = {"filelist": judgement.file_list(records)}
        if any("partial" in record for record in records):
            files["partial"] = True
        messages += send("result-all-files", files)
    return messages
