# SPDX-License-Identifier: MIT
#
# make            build everything into build/
# make demo       install what is missing, build, show one message going all the way, clean up
# make run        the same, but keeps emulator and daemon running to play with
# make check      all tests; ends with "N passed, N failed"
# make help       the rest
#
# CC=clang and SANITIZE=1 (ASan and UBSan) build into a directory of their own. V=1 shows the commands.

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
run_src := $(filter-out tools/run/main.c,$(wildcard tools/run/*.c))
iothubctl_src := $(filter-out tools/iothubctl/main.c,$(wildcard tools/iothubctl/*.c))
inspect_src := $(filter-out tools/journal/main.c,$(wildcard tools/journal/*.c))
bench_src := $(wildcard tools/bench/*.c)
# Linked into each of the others.
bench_common := tools/bench/bench.c tools/bench/client.c
support_src := $(wildcard tests/support/*.c)
test_src := $(wildcard tests/unit/test_*.c tests/flow/test_*.c tests/mount/test_*.c tests/crash/test_*.c \
	tests/judges/test_*.c)
fuzz_src := $(wildcard tests/fuzz/fuzz_*.c)

# What users call builds with all processors, unless they say -j themselves.
parallel = $(MAKE) --no-print-directory $(if $(V),,--silent) $(if $(findstring -j,$(MAKEFLAGS)),,-j$(shell nproc))

V ?=
quiet = $(if $(V),,@printf '  %-5s %s\n' $(1) $@;)
link = $(call quiet,LINK)$(CC) $(LDFLAGS) -o $@

obj = $(patsubst %.c,$(BUILD)/obj/%.o,$(1))
all_src := $(daemon_src) daemon/main.c $(emulator_src) tools/emulator/main.c $(hubctl_src) $(run_src) \
	tools/run/main.c $(iothubctl_src) tools/iothubctl/main.c $(inspect_src) tools/journal/main.c $(bench_src) $(support_src) $(test_src) $(fuzz_src) \
	tests/fuzz/replay.c

programs := $(BUILD)/iothubd $(BUILD)/iothub-emulator $(BUILD)/hubctl $(BUILD)/iothub-run $(BUILD)/iothubctl \
	$(BUILD)/iothub-journal
bench_bin := $(patsubst tools/bench/%.c,$(BUILD)/bench/%,$(filter-out $(bench_common),$(bench_src)))
test_bin := $(patsubst tests/%.c,$(BUILD)/tests/%,$(test_src))
# What tests put in front of the daemon with LD_PRELOAD.
preload_lib := $(patsubst tests/crash/preload/%.c,$(BUILD)/tests/crash/%.so,$(wildcard tests/crash/preload/*.c))
replay_bin := $(patsubst tests/fuzz/fuzz_%.c,$(BUILD)/tests/fuzz/replay_%,$(fuzz_src))
test_scripts := $(wildcard tests/unit/test_*.sh tests/flow/test_*.sh tests/mount/test_*.sh tests/crash/test_*.sh)
# Clients nobody here wrote: each of these names its client and its version.
judge_scripts := $(wildcard tests/judges/test_*.py tests/judges/test_*.js)

.PHONY: all demo run check contract torture quickcheck lint format bench fuzz install uninstall clean deps tests help FORCE
.DELETE_ON_ERROR:
.SECONDARY:

all: $(programs)

help:
	@sed -n 's/^# \{0,1\}//; 3,9p' Makefile
	@echo 'make quickcheck unit tests only'
	@echo 'make torture    the crash tests in their long forms'
	@echo 'make contract   writes tests/contract.md from the last make check'
	@echo 'make lint       format, clang-tidy, cppcheck, layers'
	@echo 'make format     clang-format in place'
	@echo 'make bench      measure, as ratios against a peer in the same run'
	@echo 'make fuzz       fuzz every target (RUNS=10000000 TARGET=...)'
	@echo 'make install    PREFIX=/usr/local DESTDIR='
	@echo 'make uninstall  what install put there'
	@echo 'make clean'

# Other flags, or a source that is gone, build anew what they concern.
stamp = @mkdir -p $(@D); printf '%s\n' '$(subst ','\'',$(1))' | cmp -s - $@ || printf '%s\n' '$(subst ','\'',$(1))' > $@
$(BUILD)/flags: FORCE
	$(call stamp,$(CC) $(CPPFLAGS) $(CFLAGS) $(LDFLAGS))
$(BUILD)/sources: FORCE
	$(call stamp,$(daemon_src) $(emulator_src) $(hubctl_src) $(run_src) $(iothubctl_src) $(inspect_src) \
		$(support_src))
FORCE:

$(BUILD)/obj/%.o: %.c Makefile $(BUILD)/flags
	@mkdir -p $(@D)
	$(call quiet,CC)$(CC) $(CPPFLAGS) $(CFLAGS) $(if $(filter tests/% tools/%,$<),-I.) -MMD -MP -c -o $@ $<

$(BUILD)/libdaemon.a: $(call obj,$(daemon_src)) $(BUILD)/sources
	@rm -f $@
	$(call quiet,AR)ar rcs $@ $(filter %.o,$^)

$(BUILD)/libemulator.a: $(call obj,$(emulator_src)) $(BUILD)/sources
	@rm -f $@
	$(call quiet,AR)ar rcs $@ $(filter %.o,$^)

$(BUILD)/librun.a: $(call obj,$(run_src)) $(BUILD)/sources
	@rm -f $@
	$(call quiet,AR)ar rcs $@ $(filter %.o,$^)

$(BUILD)/libiothubctl.a: $(call obj,$(iothubctl_src)) $(BUILD)/sources
	@rm -f $@
	$(call quiet,AR)ar rcs $@ $(filter %.o,$^)

$(BUILD)/libinspect.a: $(call obj,$(inspect_src)) $(BUILD)/sources
	@rm -f $@
	$(call quiet,AR)ar rcs $@ $(filter %.o,$^)

$(BUILD)/iothubd: $(call obj,daemon/main.c) $(BUILD)/libdaemon.a
	$(link) $^ $(daemon_libs)

$(BUILD)/iothub-emulator: $(call obj,tools/emulator/main.c) $(BUILD)/libemulator.a $(BUILD)/libdaemon.a
	$(link) $^ $(daemon_libs)

$(BUILD)/hubctl: $(call obj,$(hubctl_src)) $(BUILD)/libdaemon.a
	$(link) $^ -lmosquitto -ljson-c -lcrypto

$(BUILD)/iothub-run: $(call obj,tools/run/main.c) $(BUILD)/librun.a $(BUILD)/libdaemon.a
	$(link) $^ -ljson-c -lsystemd

$(BUILD)/iothubctl: $(call obj,tools/iothubctl/main.c) $(BUILD)/libiothubctl.a $(BUILD)/libdaemon.a
	$(link) $^ -ljson-c

$(BUILD)/iothub-journal: $(call obj,tools/journal/main.c) $(BUILD)/libinspect.a $(BUILD)/libdaemon.a
	$(link) $^ -ljson-c -lcrypto

$(BUILD)/bench/%: $(BUILD)/obj/tools/bench/%.o $(call obj,$(bench_common)) $(BUILD)/libdaemon.a
	@mkdir -p $(@D)
	$(link) $^ $(bench_libs) $(daemon_libs)
bench_libs := -lmosquitto
$(BUILD)/bench/store: bench_libs := -lmosquitto -lsqlite3

$(BUILD)/tests/fuzz/replay_%: $(BUILD)/obj/tests/fuzz/fuzz_%.o $(BUILD)/obj/tests/fuzz/replay.o $(call obj,$(support_src)) \
		$(BUILD)/librun.a $(BUILD)/libemulator.a $(BUILD)/libdaemon.a
	@mkdir -p $(@D)
	$(link) $^ $(daemon_libs)

$(BUILD)/tests/%: $(BUILD)/obj/tests/%.o $(call obj,$(support_src)) $(BUILD)/libiothubctl.a $(BUILD)/libinspect.a \
		$(BUILD)/librun.a $(BUILD)/libemulator.a $(BUILD)/libdaemon.a
	@mkdir -p $(@D)
	$(link) $^ $(daemon_libs)

$(BUILD)/tests/crash/%.so: tests/crash/preload/%.c Makefile $(BUILD)/flags
	@mkdir -p $(@D)
	$(call quiet,LINK)$(CC) $(CPPFLAGS) -I. -O2 -g -std=gnu11 $(warnings) -MMD -MP -MT $@ -MF $@.d -shared -fPIC -o $@ $<

tests: $(programs) $(test_bin) $(replay_bin) $(preload_lib)

# Stops at once, and quickly, when everything is there.
deps:
	@packaging/install-deps

demo: deps
	@+$(parallel) all
	@tests/demo.sh $(BUILD) demo

run: deps
	@+$(parallel) all
	@tests/demo.sh $(BUILD) run

check: deps
	@+$(parallel) tests build/mqttjs/installed
	@CONTRACT=1 tests/run.sh $(BUILD) $(test_bin) $(replay_bin) $(test_scripts) $(judge_scripts)

# Takes over what the last `make check` found: the table of the contract's rules and their tests.
contract:
	@tests/contract/table.py --write $(BUILD)/check.log

# mqtt.js as the lock file has it.
build/mqttjs/installed: tests/judges/mqttjs/package.json tests/judges/mqttjs/package-lock.json
	@rm -rf $(@D) && mkdir -p $(@D) && cp $^ $(@D)
	$(call quiet,NPM)cd $(@D) && npm ci --silent --ignore-scripts --no-audit --no-fund && touch $(@F)

# Each with its long form: hours.
torture: export IOTHUB_KILLS = 1000
torture: export IOTHUB_CUTS = 500
torture: export IOTHUB_MALLOC = 0
torture: export IOTHUB_SEQUENCES = 1000
torture: export IOTHUB_FLIPS = 10000
torture: export IOTHUB_TORN_SAMPLES = 10000
torture: export IOTHUB_MODEL = 20000
torture: deps
	@+$(parallel) tests
	@tests/run.sh $(BUILD) $(filter $(BUILD)/tests/crash/%,$(test_bin)); status=$$?; \
		grep -E '^(== |# [0-9]|# TEST_SEED)' $(BUILD)/check.log; exit $$status

quickcheck:
	@+$(parallel) tests
	@tests/run.sh $(BUILD) $(filter $(BUILD)/tests/unit/%,$(test_bin)) $(replay_bin) \
		$(filter tests/unit/%,$(test_scripts))

c_files := $(sort $(wildcard uapi/*.h daemon/*.c daemon/*/*.[ch] tools/*/*.[ch] tools/*/*/*.[ch] tests/*.h tests/*/*.[ch] tests/*/*/*.[ch]))

lint: deps
	@+$(parallel) $(BUILD)/libdaemon.a $(BUILD)/libemulator.a $(BUILD)/librun.a $(BUILD)/libiothubctl.a \
		$(BUILD)/libinspect.a
	@tests/lint/run.sh $(BUILD) $(c_files)

format:
	clang-format -i $(c_files)

bench: deps
	@+$(parallel) all $(bench_bin)
	@tools/bench/run.sh $(BUILD)
	@tools/bench/store.sh $(BUILD)

# Fuzzing needs clang; each target runs RUNS inputs on top of its corpus.
RUNS ?= 10000000
TARGET ?= $(patsubst tests/fuzz/fuzz_%.c,%,$(fuzz_src))
fuzz_build := build/fuzz
fuzz_flags := -O2 -g -std=gnu11 -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
fuzz_obj = $(patsubst %.c,$(fuzz_build)/obj/%.o,$(1))

$(fuzz_build)/obj/%.o: %.c Makefile
	@mkdir -p $(@D)
	$(call quiet,FUZZ)clang $(CPPFLAGS) -I. $(fuzz_flags) -fsanitize=fuzzer-no-link -MMD -MP -c -o $@ $<

$(fuzz_build)/%: $(fuzz_build)/obj/tests/fuzz/fuzz_%.o $(call fuzz_obj,$(daemon_src) $(emulator_src) $(run_src) $(support_src))
	$(call quiet,LINK)clang $(fuzz_flags) -fsanitize=fuzzer -o $@ $^ $(daemon_libs)

fuzz: deps
	@+$(parallel) $(patsubst %,$(fuzz_build)/%,$(TARGET))
	@tests/fuzz/run.sh $(fuzz_build) $(RUNS) $(TARGET)

# What goes where: source, directory, mode. Units get the places of the programs written into them.
installed := $(BUILD)/iothubd:$(sbindir):755 $(BUILD)/iothub-emulator:$(bindir):755 $(BUILD)/hubctl:$(bindir):755 \
	$(BUILD)/iothub-run:$(bindir):755 $(BUILD)/iothubctl:$(bindir):755 $(BUILD)/iothub-journal:$(sbindir):755 \
	$(foreach page,$(wildcard packaging/man/*.[1-8]),$(page):$(mandir)/man$(subst .,,$(suffix $(page))):644) \
	$(patsubst %,%:$(completiondir):644,$(wildcard packaging/completions/*)) \
	$(patsubst %,%:$(PREFIX)/lib/sysusers.d:644,$(wildcard packaging/sysusers/*.conf)) \
	$(patsubst %,%:$(PREFIX)/lib/tmpfiles.d:644,$(wildcard packaging/tmpfiles/*.conf)) \
	$(patsubst %,%:$(unitdir):644,$(wildcard packaging/systemd/*.service))

install: all
	@for entry in $(installed); do \
		source=$${entry%%:*} mode=$${entry##*:} dir=$${entry#*:}; target=$(DESTDIR)$${dir%:*}/$${source##*/}; \
		echo "  INSTALL $$target"; \
		install -D -m "$$mode" "$$source" "$$target" || exit 1; \
		case $$source in *.service) sed -i 's|@sbindir@|$(sbindir)|; s|@bindir@|$(bindir)|' "$$target" || exit 1 ;; esac; \
	done

uninstall:
	@for entry in $(installed); do \
		source=$${entry%%:*} dir=$${entry#*:}; target=$(DESTDIR)$${dir%:*}/$${source##*/}; \
		echo "  REMOVE  $$target"; \
		rm -f "$$target" || exit 1; \
	done

clean:
	rm -rf build

-include $(patsubst %,%.d,$(preload_lib)) $(patsubst %.o,%.d,$(call obj,$(all_src)) $(call fuzz_obj,$(daemon_src) $(emulator_src) $(run_src) $(support_src) $(fuzz_src)))
