/* SPDX-License-Identifier: MIT */
#ifndef HUBCTL_COMMANDS_H
#define HUBCTL_COMMANDS_H

/*
 * Every command. @argv[0] is the command's last word. Each returns the exit code: 0 done, 1 failed, 2 not
 * understood; the two errors come with one line on standard error.
 */

int hubctl_devices_add(int argc, char **argv);
int hubctl_devices_list(int argc, char **argv);
int hubctl_devices_show(int argc, char **argv);
int hubctl_devices_remove(int argc, char **argv);
int hubctl_devices_keys(int argc, char **argv);

int hubctl_monitor(int argc, char **argv);

int hubctl_twin_show(int argc, char **argv);
int hubctl_twin_patch(int argc, char **argv);
int hubctl_twin_watch(int argc, char **argv);

int hubctl_command_send(int argc, char **argv);
int hubctl_command_list(int argc, char **argv);
int hubctl_command_watch(int argc, char **argv);
int hubctl_command_purge(int argc, char **argv);

int hubctl_method_call(int argc, char **argv);

int hubctl_fault_set(int argc, char **argv);
int hubctl_fault_list(int argc, char **argv);
int hubctl_fault_clear(int argc, char **argv);

#endif
