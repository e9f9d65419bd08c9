# SPDX-License-Identifier: MIT
#
# make            build everything into build/
# make demo       install what is missing, build, show one message going all the way, clean up
# make run        the same, but keeps emulator and daemon running to play with
# make check      all tests; ends with "N passed, N failed"
# make help       the rest
#
# CC=clang and SANITIZE=1 (ASan and UBSan) build into a directory of their own.

VERSION := 0.1.0
CC := $(if $(filter default,$(origin CC)),gcc,$(CC))
SANITIZE ?=
variant := $(notdir $(firstword $(CC)))$(if $(SANITIZE),-sanitize)
BUILD ?= build$(if $(filter-out gcc,$(variant)),/$(variant))

PREFIX ?= /usr/local
DESTDIR ?=
sbindir = $(PREFIX)/sbin
bindir = $(PREFIX)/bin
mandir = $(PREFIX)/share/man
unitdir = $(PREFIX)/lib/systemd/system
completiondir = $(PREFIX)/share/bash-completion/completions

CPPFLAGS += -D_GNU_SOURCE -DIOTHUB_VERSION='"$(VERSION)"' -Idaemon -Iuapi
CFLAGS ?= -O2 -g
warnings := -Wall -Wextra -Werror -Wshadow -Wconversion -Wstrict-prototypes -Wmissing-prototypes \
	-Wold-style-definition -Wpointer-arith -Wcast-qual -Wwrite-strings -Wvla -Wundef -Wformat=2
comma := ,
sanitizers := $(if $(SANITIZE),-fsanitize=address$(comma)undefined -fno-sanitize-recover=all -fno-omit-frame-pointer)
override CFLAGS += -std=gnu11 $(warnings) $(sanitizers)
override LDFLAGS += $(sanitizers)

# Plain library names, no pkg-config: this file is read before anything is installed.
daemon_libs := -luring -lssl -lcrypto -ljson-c -lcares -lsystemd -lpthread

daemon_src := $(filter-out daemon/main.c,$(wildcard daemon/*/*.c))
emulator_src := $(filter-out tools/emulator/main.c,$(wildcard tools/emulator/*.c))
hubctl_src := $(wildcard tools/hubctl/*.c)
bench_src := $(wildcard tools/bench/*.c)
support_src := $(wildcard tests/support/*.c)
test_src := $(wildcard tests/unit/test_*.c tests/flow/test_*.c tests/mount/test_*.c tests/crash/test_*.c)
fuzz_src := $(wildcard tests/fuzz/fuzz_*.c)

obj = $(patsubst %.c,$(BUILD)/obj/%.o,$(1))
all_src := $(daemon_src) daemon/main.c $(emulator_src) tools/emulator/main.c $(hubctl_src) $(bench_src) \
	$(support_src) $(test_src) $(fuzz_src) tests/fuzz/replay.c

programs := $(BUILD)/iothubd $(BUILD)/iothub-emulator $(BUILD)/hubctl
bench_bin := $(patsubst tools/bench/%.c,$(BUILD)/bench/%,$(bench_src))
test_bin := $(patsubst tests/%.c,$(BUILD)/tests/%,$(test_src))
replay_bin := $(patsubst tests/fuzz/fuzz_%.c,$(BUILD)/tests/fuzz/replay_%,$(fuzz_src))
test_scripts := $(wildcard tests/unit/test_*.sh tests/flow/test_*.sh tests/mount/test_*.sh tests/crash/test_*.sh)

.PHONY: all demo run check quickcheck lint format bench fuzz install uninstall clean deps tests help
.DELETE_ON_ERROR:
.SECONDARY:

all: $(programs)

help:
	@sed -n 's/^# \{0,1\}//; 2,9p' Makefile
	@echo 'make quickcheck unit tests only'
	@echo 'make lint       format, clang-tidy, cppcheck, layers'
	@echo 'make format     clang-format in place'
	@echo 'make bench      measure, as ratios against a peer in the same run'
	@echo 'make fuzz       fuzz every target (RUNS=10000000 TARGET=...)'
	@echo 'make install    PREFIX=/usr/local DESTDIR='
	@echo 'make uninstall  what install put there'
	@echo 'make clean'

$(BUILD)/obj/%.o: %.c Makefile
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(CFLAGS) $(if $(filter tests/% tools/%,$<),-I.) -MMD -MP -c -o $@ $<

$(BUILD)/libdaemon.a: $(call obj,$(daemon_src))
	@rm -f $@
	ar rcs $@ $^

$(BUILD)/libemulator.a: $(call obj,$(emulator_src))
	@rm -f $@
	ar rcs $@ $^

$(BUILD)/iothubd: $(call obj,daemon/main.c) $(BUILD)/libdaemon.a
	$(CC) $(LDFLAGS) -o $@ $^ $(daemon_libs)

$(BUILD)/iothub-emulator: $(call obj,tools/emulator/main.c) $(BUILD)/libemulator.a $(BUILD)/libdaemon.a
	$(CC) $(LDFLAGS) -o $@ $^ $(daemon_libs)

$(BUILD)/hubctl: $(call obj,$(hubctl_src)) $(BUILD)/libdaemon.a
	$(CC) $(LDFLAGS) -o $@ $^ -lmosquitto -ljson-c -lcrypto

$(BUILD)/bench/%: $(BUILD)/obj/tools/bench/%.o $(BUILD)/libdaemon.a
	@mkdir -p $(@D)
	$(CC) $(LDFLAGS) -o $@ $^ -lmosquitto $(daemon_libs)

$(BUILD)/tests/fuzz/replay_%: $(BUILD)/obj/tests/fuzz/fuzz_%.o $(BUILD)/obj/tests/fuzz/replay.o $(BUILD)/libdaemon.a
	@mkdir -p $(@D)
	$(CC) $(LDFLAGS) -o $@ $^ $(daemon_libs)

$(BUILD)/tests/%: $(BUILD)/obj/tests/%.o $(call obj,$(support_src)) $(BUILD)/libemulator.a $(BUILD)/libdaemon.a
	@mkdir -p $(@D)
	$(CC) $(LDFLAGS) -o $@ $^ $(daemon_libs)

tests: $(programs) $(test_bin) $(replay_bin)

# Stops at once, and quickly, when everything is there.
deps:
	@packaging/install-deps

demo: deps
	@$(MAKE) --no-print-directory all
	@tests/demo.sh $(BUILD) demo

run: deps
	@$(MAKE) --no-print-directory all
	@tests/demo.sh $(BUILD) run

check: deps
	@$(MAKE) --no-print-directory tests
	@tests/run.sh $(BUILD) $(test_bin) $(replay_bin) $(test_scripts)

quickcheck:
	@$(MAKE) --no-print-directory tests
	@tests/run.sh $(BUILD) $(filter $(BUILD)/tests/unit/%,$(test_bin)) $(replay_bin)

c_files := $(sort $(wildcard uapi/*.h daemon/*.c daemon/*/*.[ch] tools/*/*.[ch] tests/*.h tests/*/*.[ch]))

lint: deps
	@tests/lint/run.sh $(c_files)

format:
	clang-format -i $(c_files)

bench: deps
	@$(MAKE) --no-print-directory all $(bench_bin)
	@tools/bench/run.sh $(BUILD)

# Fuzzing needs clang; each target runs RUNS inputs on top of its corpus.
RUNS ?= 10000000
TARGET ?= $(patsubst tests/fuzz/fuzz_%.c,%,$(fuzz_src))
fuzz_flags := -O2 -g -std=gnu11 -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all
$(BUILD)/fuzz/%: tests/fuzz/fuzz_%.c $(daemon_src) $(wildcard daemon/*/*.h)
	@mkdir -p $(@D)
	clang $(CPPFLAGS) -I. $(fuzz_flags) -o $@ $< $(daemon_src) $(daemon_libs)

fuzz: deps $(patsubst %,$(BUILD)/fuzz/%,$(TARGET))
	@tests/fuzz/run.sh $(BUILD) $(RUNS) $(TARGET)

install: all
	install -D -m 755 $(BUILD)/iothubd $(DESTDIR)$(sbindir)/iothubd
	install -D -m 755 $(BUILD)/iothub-emulator $(DESTDIR)$(bindir)/iothub-emulator
	install -D -m 755 $(BUILD)/hubctl $(DESTDIR)$(bindir)/hubctl
	for page in packaging/man/*.[1-8]; do \
		install -D -m 644 $$page $(DESTDIR)$(mandir)/man$${page##*.}/$${page##*/} || exit 1; done
	for file in packaging/completions/*; do \
		install -D -m 644 $$file $(DESTDIR)$(completiondir)/$${file##*/} || exit 1; done
	for unit in packaging/systemd/*.service; do \
		install -d $(DESTDIR)$(unitdir) && \
		sed 's|@sbindir@|$(sbindir)|' $$unit > $(DESTDIR)$(unitdir)/$${unit##*/} || exit 1; done

uninstall:
	rm -f $(DESTDIR)$(sbindir)/iothubd $(DESTDIR)$(bindir)/iothub-emulator $(DESTDIR)$(bindir)/hubctl
	for page in packaging/man/*.[1-8]; do rm -f $(DESTDIR)$(mandir)/man$${page##*.}/$${page##*/}; done
	for file in packaging/completions/*; do rm -f $(DESTDIR)$(completiondir)/$${file##*/}; done
	for unit in packaging/systemd/*.service; do rm -f $(DESTDIR)$(unitdir)/$${unit##*/}; done

clean:
	rm -rf build

-include $(patsubst %.o,%.d,$(call obj,$(all_src)))
