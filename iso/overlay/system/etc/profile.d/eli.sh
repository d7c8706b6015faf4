# The image has no package bash-completion, which would read this when it is needed.
if [ -n "${BASH_VERSION-}" ] && [ -n "${PS1-}" ]; then
    . /usr/share/bash-completion/completions/eli
fi
