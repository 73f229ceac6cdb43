#!/bin/sh
# Installs MicroPython 1.25 for Unix, for the tests that need the real thing: .tools/micropython, and on amd64
# .tools/micropython32, whose words have 32 bits, as a microcontroller's have.
#
# Debian 13's package where the machine has it or root can get it; else, and for 32 bits, the packages of suite
# trixie, unpacked into a folder and started through that folder's own loader, so that nothing of the machine
# is changed. The mirror is the one in the machine's own sources files. Does nothing when it is there already.
set -eu

version=1.25
tools=$(cd "$(dirname "$0")/../.." && pwd)/.tools
mkdir -p "$tools"

works() {
    [ -x "$1" ] && [ "$("$1" -c 'import sys; print("%d.%d" % sys.implementation.version[:2])' 2>/dev/null)" = "$version" ]
}

# unpack NAME ARCHITECTURE: makes .tools/NAME, a wrapper, of that architecture's packages.
unpack() {
    command -v apt-get >/dev/null && command -v dpkg >/dev/null || {
        echo "micropython: needs apt-get and dpkg; or put MicroPython $version at $tools/$1" >&2
        exit 1
    }

    # The first Debian archive of the machine's own sources (not a security archive): deb822 files, then old ones.
    mirror=$(cat /etc/apt/sources.list.d/*.sources 2>/dev/null |
        awk '$1 == "URIs:" && $2 ~ /debian\/?$/ { print $2; exit }')
    [ -n "$mirror" ] || mirror=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list 2>/dev/null |
        awk '$1 == "deb" { for (i = 2; i <= NF; i++) if ($i ~ /:\/\/.*debian\/?$/) { print $i; exit } }')
    [ -n "$mirror" ] || {
        echo "micropython: no Debian archive in this machine's apt sources" >&2
        exit 1
    }

    work=$(mktemp -d "$tools/$1.XXXXXX")
    trap 'rm -rf "$work"' EXIT INT TERM
    mkdir -p "$work/lists/partial" "$work/archives/partial" "$work/root"
    keyring=/usr/share/keyrings/debian-archive-keyring.gpg
    echo "deb [signed-by=$keyring] $mirror trixie main" >"$work/sources.list"

    apt() {
        apt-get -qq -o Acquire::Retries=3 -o APT::Sandbox::User=root \
            -o APT::Architecture="$architecture" -o APT::Architectures::="$architecture" \
            -o Dir::Etc::sourcelist="$work/sources.list" -o Dir::Etc::sourceparts=- \
            -o Dir::State::Lists="$work/lists" -o Dir::Cache::archives="$work/archives" \
            -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache= "$@"
    }

    architecture=$2
    apt update
    (cd "$work/archives" &&
        apt download micropython libc6 libffi8 libmbedcrypto16 libmbedtls21 libmbedx509-7)
    for package in "$work"/archives/*.deb; do
        dpkg -x "$package" "$work/root"
    done

    rm -rf "$tools/$1-$version"
    mv "$work/root" "$tools/$1-$version"
    loader=$(find "$tools/$1-$version" -name 'ld-linux*.so.*' | head -n 1)
    libraries=$(dirname "$(find "$tools/$1-$version" -name 'libffi.so.*' | head -n 1)")
    # The wrapper finds its folder by itself, so that the work tree can be moved.
    cat >"$work/wrapper" <<END
#!/bin/sh
root=\$(dirname "\$(readlink -f "\$0")")
exec "\$root/${loader#"$tools/"}" --library-path "\$root/${libraries#"$tools/"}" \\
    "\$root/$1-$version/usr/bin/micropython" "\$@"
END
    chmod +x "$work/wrapper"
    mv "$work/wrapper" "$tools/$1"
    rm -rf "$work"

    works "$tools/$1" || {
        echo "micropython: $tools/$1 does not start as MicroPython $version" >&2
        exit 1
    }
}

if ! works "$tools/micropython"; then
    if command -v micropython >/dev/null && works "$(command -v micropython)"; then
        ln -sf "$(command -v micropython)" "$tools/micropython"
    else
        unpack micropython "$(dpkg --print-architecture)"
    fi
fi
if ! works "$tools/micropython32" && [ "$(dpkg --print-architecture 2>/dev/null)" = amd64 ]; then
    unpack micropython32 i386
fi
