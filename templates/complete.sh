# Completion of bash for "zwrap program": names of programs, inputs as KEY=, and their choices.
_zwrap_program() {
    local line="${COMP_LINE:0:COMP_POINT}" words last
    read -ra words <<<"$line"
    [[ $line == *[[:space:]] ]] && words+=("")
    [[ ${words[1]} == program && ${words[2]} =~ ^(show|schema|run|test)$ ]] || return
    last="${words[-1]}"
    mapfile -t COMPREPLY < <("${words[0]}" program complete -- "${words[@]:3}" 2>/dev/null)
    [[ ${COMPREPLY[0]} == *= ]] && compopt -o nospace 2>/dev/null
    # The shell has split the word at "=", and replaces what stands behind it.
    [[ $last == *=* ]] && COMPREPLY=("${COMPREPLY[@]#"${last%%=*}="}")
}
complete -o default -F _zwrap_program zwrap
