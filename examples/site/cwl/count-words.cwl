cwlVersion: v1.2
class: CommandLineTool
doc: Count the words of a text file.
baseCommand: [wc, -w]
inputs:
  text: {type: File, inputBinding: {position: 1}}
stdout: words.txt
outputs:
  words: {type: stdout}
