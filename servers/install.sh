# Installs Debian packages without starting a service. Runs as root; the packages are the arguments.
set -eu
export DEBIAN_FRONTEND=noninteractive UCF_FORCE_CONFFOLD=1

# One at a time: a second one would take the first one's policy for the machine's own, and lose it in mid-install.
if [ -z "${CDC_INSTALL_LOCKED:-}" ] && command -v flock >/dev/null; then
  export CDC_INSTALL_LOCKED=1
  exec flock /run/lock/cdc-sidecar-install /bin/sh -c "$CDC_INSTALL_SCRIPT" install "$@"
fi

policy=/usr/sbin/policy-rc.d
cluster=/etc/postgresql-common/createcluster.conf
ours=
restore() {
  for file in $ours; do
    rm -f "$file"
  done
  # postgresql-common keeps its own copy of the default, which our file has kept out.
  if [ ! -e "$cluster" ] && [ -e /usr/share/postgresql-common/createcluster.conf ]; then
    cp /usr/share/postgresql-common/createcluster.conf "$cluster"
    rm -f "$cluster.ucf-dist"
  fi
}
trap restore EXIT
trap 'exit 130' INT TERM HUP

# 101 forbids to start any service. A file that is there already is the machine's own decision.
if [ ! -e "$policy" ]; then
  ours="$ours $policy"
  printf '#!/bin/sh\nexit 101\n' >"$policy"
  chmod 755 "$policy"
fi
if [ ! -e "$cluster" ]; then
  ours="$ours $cluster"
  mkdir -p "${cluster%/*}"
  echo 'create_main_cluster = false' >"$cluster"
fi

apt() {
  apt-get -q -y -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 "$@"
}
if ! ls /var/lib/apt/lists/*_Packages* >/dev/null 2>&1; then
  apt update
fi
# Lists that are there may be so old that the mirror has none of their packages any more.
apt install --no-install-recommends "$@" || {
  apt update
  apt install --no-install-recommends "$@"
}
