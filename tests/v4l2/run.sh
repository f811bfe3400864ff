#!/bin/sh
# Boots Debian's kernel in QEMU (plain emulation, no KVM) with `vivid`, the kernel's own V4L2 device, and runs check.py
# there, with this machine's Python and packages, mounted read-only over virtio-9p. Exits with 0 only if all checks passed.
#   tests/v4l2/run.sh [PYTHON]      default .venv/bin/python; downloads (70 MB, once) lie in .cache/v4l2
set -eu
cd "$(dirname "$0")/../.."
python=$(realpath -s "${1:-.venv/bin/python}")
cache=.cache/v4l2
seconds=${V4L2_TIMEOUT:-900}

for tool in qemu-system-x86_64 busybox cpio modprobe depmod apt-get dpkg-deb; do
    PATH=$PATH:/sbin:/usr/sbin command -v $tool >/dev/null || {
        echo "error: $tool is missing"
        echo "hint: sudo apt-get install qemu-system-x86 busybox-static cpio kmod"
        exit 4
    }
done
PATH=$PATH:/sbin:/usr/sbin

# -- kernel and modules: unpacked, not installed ------------------------------------------------------------------
mkdir -p $cache
if ! [ -e $cache/unpacked ]; then
    package=$(apt-cache depends linux-image-amd64 | sed -n 's/.*Depends: //p' | head -1)
    (cd $cache && rm -f linux-image-*.deb && apt-get -q download "$package")
    dpkg-deb --fsys-tarfile $cache/linux-image-*.deb | tar -x -C $cache --wildcards ./boot/'vmlinuz*' \
        ./lib/modules/'*/modules.*' ./lib/modules/'*/kernel/drivers/'media ./lib/modules/'*/kernel/drivers/'video \
        ./lib/modules/'*/kernel/drivers/'virtio ./lib/modules/'*/kernel/fs/'* ./lib/modules/'*/kernel/net/9p'
    touch $cache/unpacked
fi
release=$(basename $cache/lib/modules/*)
depmod -b $cache "$release"

# -- initramfs: busybox, what vivid and 9p need, and init ---------------------------------------------------------
work=$(mktemp -d)
tree=$work/tree
trap 'rm -rf "$work"' EXIT
mkdir -p "$tree/bin" "$tree/modules" "$tree/host" "$tree/proc"
cp "$(command -v busybox)" "$tree/bin/busybox"
for module in virtio_pci 9pnet_virtio 9p vivid; do
    modprobe -d $cache -S "$release" --show-depends $module | sed -n 's/^insmod \([^ ]*\).*/\1/p'
done | awk '!seen[$0]++' >"$tree/list"
while read -r file; do
    cp "$file" "$tree/modules/"
    basename "$file"
done <"$tree/list" >"$tree/modules/order"
cat >"$tree/init" <<GUEST
#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc
while read -r module; do
    [ \$module = vivid.ko ] || insmod /modules/\$module || echo "cannot load \$module"
done </modules/order
mount -t 9p -o trans=virtio,version=9p2000.L,ro,msize=262144,cache=loose host /host || poweroff -f
mount -t proc proc /host/proc
mount -t sysfs sysfs /host/sys
mount -t devtmpfs devtmpfs /host/dev
mount -t tmpfs tmpfs /host/tmp
insmod /modules/vivid.ko n_devs=3 node_types=0x1,0x1,0x1 num_inputs=1,1,1 input_types=0,0,0 multiplanar=1,1,2
echo "guest is up: \$(uname -r), \$(ls /host/dev | grep -c '^video') video devices"
cd /host
chroot /host /usr/bin/env PYTHONPATH=$PWD/.typing PYTHONDONTWRITEBYTECODE=1 HOME=/tmp OPENBLAS_NUM_THREADS=1 \
    $python $PWD/tests/v4l2/check.py
echo "check ended with \$?"
poweroff -f
GUEST
chmod 755 "$tree/init"
rm "$tree/list"
(cd "$tree" && find . | cpio --quiet -o -H newc | gzip -1) >"$work/initramfs.gz"

# -- boot ---------------------------------------------------------------------------------------------------------
status=0
timeout "$seconds" qemu-system-x86_64 -accel tcg,thread=multi -cpu max -smp 2 -m 1024 -display none -no-reboot \
    -nodefaults -kernel $cache/boot/vmlinuz-* -initrd "$work/initramfs.gz" \
    -append "console=ttyS0 quiet panic=-1 random.trust_cpu=on" -serial stdio -monitor none \
    -fsdev local,id=host,path=/,security_model=none,readonly=on,multidevs=remap \
    -device virtio-9p-pci,fsdev=host,mount_tag=host </dev/null >"$work/console.log" 2>&1 || status=$?
tr -d '\r' <"$work/console.log"
[ "$status" != 124 ] || echo "error: the emulated machine did not end within $seconds s"
grep -q '^check ended with 0' "$work/console.log"
