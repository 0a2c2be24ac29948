#!/bin/bash
# The same move without Livelift, as a careful administrator does it with rsync, chroot and one Python program: what the
# outage of a cutover is compared with. Runs on the target: by_hand.sh copy|last|adapt|swap. Nothing of it survives a
# power cut in the wrong second, and nothing is verified.
set -ex
fetch() { # exit code 24: files that vanished while it ran, as they do on a running system
    rsync -aHAXS --numeric-ids --delete -x "$@" rsync://192.168.77.1/root/ /staging/ || [ $? = 24 ]
}
case $1 in
copy) fetch ;;
last) # what has been adapted stays (else it would be the source's again)
    fetch --exclude=/etc/fstab --exclude=/etc/network/interfaces --exclude=/boot/grub --exclude='/boot/initrd.img-*' ;;
adapt)
    for file in etc/fstab etc/network/interfaces; do cp -a /$file /staging/$file; done
    rm -rf /staging/boot/grub
    cp -a /boot/grub /staging/boot/grub # the loader's modules fit its core image, which stays
    mount --bind /staging /mnt          # mkinitramfs and grub-probe want a mount point
    for place in dev proc sys run; do mount --bind /$place /mnt/$place; done
    chroot /mnt update-initramfs -u -k all
    chroot /mnt update-grub
    umount -R /mnt
    sed -i 's#/staging/boot#/boot#g' /staging/boot/grub/grub.cfg ;;
swap)
    systemd-run --no-block --quiet python3 -c '
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
libc.mlockall(3)
for name in sorted(os.listdir(b"/staging")):
    if name not in (b"proc", b"sys", b"dev", b"run", b"tmp", b"lost+found"):
        if libc.renameat2(-100, b"/staging/" + name, -100, b"/" + name, 2):  # RENAME_EXCHANGE
            if libc.renameat2(-100, b"/staging/" + name, -100, b"/" + name, 0):
                raise OSError(ctypes.get_errno(), os.fsdecode(name))
os.sync()
libc.reboot(0x1234567)' ;; # RB_AUTOBOOT: nobody of the old system can end in order any more
esac
