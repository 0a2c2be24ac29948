"""Linux: kernel, initramfs, boot loader, fstab, network of the target into the source's tree."""
