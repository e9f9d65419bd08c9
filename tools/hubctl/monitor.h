/* SPDX-License-Identifier: MIT */
#ifndef HUBCTL_MONITOR_H
#define HUBCTL_MONITOR_H

/* `hubctl monitor`: prints telemetry as JSON lines. Returns the exit code. */
int hubctl_monitor(int argc, char **argv);

#endif
