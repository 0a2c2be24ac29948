#!/bin/sh
# Runs in the source: the odd things that a replica loses first, below /srv/planted, and the service's data.
# Its argument is the token of the page that says "this is the service".
set -e
umask 022
mkdir -p /srv/planted/a/b /srv/planted/c
cd /srv/planted
echo immutable >immutable
chattr +i immutable
echo log >append-only
chattr +a append-only
mkdir -p still
echo within >still/within
chattr +i still
chattr +d no-dump 2>/dev/null || { : >no-dump; chattr +d no-dump; }
# capabilities, set-id, owners without a name
cp /usr/bin/python3 capable
setcap cap_net_raw,cap_net_bind_service=ep capable
cp /usr/bin/id setuid
chmod 6755 setuid
mkdir sticky
chmod 1777 sticky
echo owned >owned
chown 12345:54321 owned
# 1 GiB with data in five places, and one that ends in a hole
truncate -s 1G sparse
for at in 0 1 300 511 1022; do echo "block $at" | dd of=sparse bs=1M seek=$at conv=notrunc status=none; done
truncate -s 5000000 hole
# ACLs, also a directory's default and what is inherited from it
echo acl >acl
setfacl -m u:nobody:rw,g:www-data:r acl
mkdir inherits
setfacl -d -m u:nobody:rwx inherits
echo inherited >inherits/one
# user attributes: binary, empty, large
echo attributes >attributes
setfattr -n user.text -v 'a word' attributes
setfattr -n user.binary -v 0x00ff0a0d attributes
setfattr -n user.empty attributes
setfattr -n user.large -v "$(head -c 3000 /dev/zero | tr '\0' x)" attributes
setfattr -n user.on-directory -v yes a
# hard links over directories, also of a symbolic link and of a pipe
echo linked >a/one
ln a/one a/b/two
ln a/one c/three
ln -s /nowhere/at/all dangling
ln dangling c/dangling-too
mkfifo pipe
ln pipe c/pipe-too
ln -s ../planted/a/b relative
mknod null c 1 3
# names that are no text, and times of long ago and to come
: >"$(printf 'not\377utf8')"
: >"$(printf 'two\nlines')"
: >"$(head -c 255 /dev/zero | tr '\0' n)"
echo old >old
touch -d '1980-02-03 04:05:06.123456789' old
echo future >future
touch -d '2055-01-01 00:00:00.000000001' future

echo "$1" >/var/www/html/who.txt
createdb='su postgres -c "createdb -T template0 -E UTF8 shop"'
eval "$createdb"
su postgres -c 'psql -q -v ON_ERROR_STOP=1 shop' </root/schema.sql
dpkg -i /root/shop_1.0_all.deb
sync
