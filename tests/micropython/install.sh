#!/bin/sh
# Installs MicroPython 1.25 for Unix as .tools/micropython (a wrapper), for the tests that need the real thing.
#
# Debian 13's package where the machine has it or root can get it; else (Debian 12) the packages of suite
# trixie, unpacked into a folder and started through that folder's own loader, so that nothing of the machine
# is changed. The mirror is the one in the machine's own sources files. Does nothing when it is there already.
set -eu

version=1.25
tools=$(cd "$(dirname "$0")/../.." && pwd)/.tools
wrapper=$tools/micropython

works() {
    [ "$("$1" -c 'import sys; print("%d.%d" % sys.implementation.version[:2])' 2>/dev/null)" = "$version" ]
}

if [ -x "$wrapper" ] && works "$wrapper"; then
    exit 0
fi
mkdir -p "$tools"

if command -v micropython >/dev/null && works micropython; then
    ln -sf "$(command -v micropython)" "$wrapper"
    exit 0
fi

command -v apt-get >/dev/null && command -v dpkg >/dev/null || {
    echo "micropython: needs apt-get and dpkg; or put MicroPython $version at $wrapper" >&2
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

work=$(mktemp -d "$tools/micropython.XXXXXX")
trap 'rm -rf "$work"' EXIT INT TERM
mkdir -p "$work/lists/partial" "$work/archives/partial" "$work/root"
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
echo "deb [signed-by=$keyring] $mirror trixie main" >"$work/sources.list"

apt() {
    apt-get -qq -o Acquire::Retries=3 -o APT::Sandbox::User=root \
        -o Dir::Etc::sourcelist="$work/sources.list" -o Dir::Etc::sourceparts=- \
        -o Dir::State::Lists="$work/lists" -o Dir::Cache::archives="$work/archives" \
        -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache= "$@"
}

apt update
(cd "$work/archives" &&
    apt download micropython libc6 libffi8 libmbedcrypto16 libmbedtls21 libmbedx509-7)
for package in "$work"/archives/*.deb; do
    dpkg -x "$package" "$work/root"
done

rm -rf "$tools/micropython-$version"
mv "$work/root" "$tools/micropython-$version"
loader=$(find "$tools/micropython-$version" -name 'ld-linux-*.so.*' | head -n 1)
libraries=$(dirname "$(find "$tools/micropython-$version" -name 'libffi.so.*' | head -n 1)")
# The wrapper finds its folder by itself, so that the work tree can be moved.
cat >"$work/wrapper" <<END
#!/bin/sh
root=\$(dirname "\$(readlink -f "\$0")")
exec "\$root/${loader#"$tools/"}" --library-path "\$root/${libraries#"$tools/"}" \\
    "\$root/micropython-$version/usr/bin/micropython" "\$@"
END
chmod +x "$work/wrapper"
mv "$work/wrapper" "$wrapper"

works "$wrapper" || {
    echo "micropython: $wrapper does not start as MicroPython $version" >&2
    exit 1
}
