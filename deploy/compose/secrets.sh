#!/bin/sh
# Writes the secrets that compose.yaml mounts: once; it refuses to change what running servers already know.
set -eu
cd "$(dirname "$0")"
[ ! -e secrets ] || { echo "secrets/ is already there; remove it, and the volumes, to start over" >&2; exit 1; }

# Only the owner enters the folder; the files are readable to all, for the users inside the containers.
umask 022
mkdir -m 0700 secrets

random() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }
secret() { printf %s "$2" >"secrets/$1"; }

secret admin_token "$(random)"
users= permissions=
for office in head north south; do
	password=$(random) broker=$(random)
	case $office in
	south) url=mysql://cdc:$password@south-database:3306/shop ;;
	*) url=postgres://cdc:$password@$office-database:5432/shop ;;
	esac
	secret "${office}_password" "$password"
	secret "${office}_database" "$url"
	secret "${office}_broker" "amqp://$office:$broker@rabbitmq:5672/offices"
	# The user has the office's name: so the broker itself vouches for the sender of each message.
	users="$users${users:+,}
    {\"name\": \"$office\", \"password\": \"$broker\", \"tags\": []}"
	permissions="$permissions${permissions:+,}
    {\"user\": \"$office\", \"vhost\": \"offices\", \"configure\": \"^cdc\\\\.\", \"write\": \"^cdc\\\\.\", \"read\": \"^cdc\\\\.\"}"
done
secret definitions.json "{
  \"vhosts\": [{\"name\": \"offices\"}],
  \"users\": [$users
  ],
  \"permissions\": [$permissions
  ]
}
"
