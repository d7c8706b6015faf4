# make iso    the ISO, in out/elisandra.iso
# make lab    three machines on this one: an appliance and two that become its hosts
# make test   everything: formatting, lints, unit tests, and machines that boot
# make image  what machines boot, without the ISO

.PHONY: iso lab test image programs needs

iso: programs
	cargo run --quiet --release -p iso -- all --out out --binaries target/release

image: programs
	cargo run --quiet --release -p iso -- image --out out --binaries target/release

lab: iso
	cargo run --quiet --release -p tests --bin lab

test: needs
	tests/run

# The four programs that go onto the image.
programs: needs
	cargo build --release --bin elisandra --bin eli --bin elisandra-node --bin elisandra-host

needs:
	@tests/needs
