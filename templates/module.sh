# `module` belongs to login shells. Its first use looks for it, and says so where there is none.
type module >/dev/null 2>&1 || module() {
  local file words=("$@") files=(
    "${MODULESHOME:-/nowhere}/init/bash" /etc/profile.d/modules.sh /etc/profile.d/lmod.sh
    /etc/profile.d/z00_lmod.sh /usr/share/lmod/lmod/init/bash /usr/share/Modules/init/bash
    /usr/share/modules/init/bash
  )
  unset -f module
  for file in "${files[@]}"; do
    [ ! -r "$file" ] || . "$file"
    if type module >/dev/null 2>&1; then
      module "${words[@]}"
      return
    fi
  done
  echo "zwrap: there is no 'module' on $HOSTNAME: source the file that defines it first" \
    "(looked for: ${files[*]:1})" >&2
  return 127
}
