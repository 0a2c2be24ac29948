#!/bin/bash
# Runs once in a new machine, on its own hardware, as PID 1 right after the initramfs: no systemd, no services.
# It makes what only the machine itself can make: fstab, an initramfs with its drivers and no others, the boot loader.
# Its environment is the kernel's command line (kernel.org, admin-guide/init: unknown KEY=VALUE words go to init).
exec </dev/null >/dev/ttyS0 2>&1
# PID 1 must not exit (panic), so the power goes off by sysrq.
end() { sync; echo u >/proc/sysrq-trigger; sleep 1; echo o >/proc/sysrq-trigger; sleep 60; }
trap end EXIT
PS4='+ $SECONDS '
set -ex
export DEBIAN_FRONTEND=noninteractive PATH=/usr/sbin:/usr/bin:/sbin:/bin
mount -o remount,rw /
mount -t tmpfs tmpfs /tmp
rm /seal
uuid() { blkid -s UUID -o value "$1"; }

echo "$VM_NAME" >/etc/hostname
hostname "$VM_NAME"
printf '127.0.0.1 localhost\n127.0.1.1 %s\n192.168.77.1 source\n192.168.77.2 target\n' "$VM_NAME" >/etc/hosts
rm -f /etc/ssh/ssh_host_*
ssh-keygen -A
: >/etc/machine-id
rm -f /var/lib/dbus/machine-id # systemd would refill the other one from it, and all machines would have the same
cat >/etc/network/interfaces <<END
auto lo $VM_MGMT $VM_LINK
iface lo inet loopback
iface $VM_MGMT inet static
    address 10.0.2.15/24
iface $VM_LINK inet static
    address $VM_ADDRESS/24
    mtu 9000
END

if [ -n "$VM_LVM" ]; then
    echo "/dev/mapper/vg-root / ext4 errors=remount-ro 0 1" >/etc/fstab
else
    echo "UUID=$(uuid "$VM_ROOT") / ext4 errors=remount-ro 0 1" >/etc/fstab
fi
if [ -n "$VM_SWAP" ]; then
    mkswap "$VM_SWAP"
    echo "UUID=$(uuid "$VM_SWAP") none swap sw 0 0" >>/etc/fstab
fi
if [ -n "$VM_VAR" ]; then
    mkfs.ext4 -q "$VM_VAR"
    mount "$VM_VAR" /mnt
    cp -a /var/. /mnt/
    rm -rf /var/*
    umount /mnt
    mount "$VM_VAR" /var
    echo "UUID=$(uuid "$VM_VAR") /var ext4 defaults 0 2" >>/etc/fstab
fi
if [ -n "$VM_ESP" ]; then
    mkfs.vfat -F 32 "$VM_ESP"
    mkdir -p /boot/efi
    mount "$VM_ESP" /boot/efi
    mount -t efivarfs efivarfs /sys/firmware/efi/efivars
    echo "UUID=$(uuid "$VM_ESP") /boot/efi vfat umask=0077 0 1" >>/etc/fstab
    grub-install --target=x86_64-efi --efi-directory=/boot/efi
else
    grub-install --target=i386-pc "$VM_DISK"
    echo "grub-pc grub-pc/install_devices multiselect $VM_DISK" | debconf-set-selections
fi
if [ -z "$VM_SERVES" ]; then
    systemctl disable -q postgresql nginx
fi
update-initramfs -u -k all
update-grub
[ -z "$VM_ESP" ] || umount /boot/efi
[ -z "$VM_VAR" ] || umount /var
sync
echo VM-SEAL-OK
