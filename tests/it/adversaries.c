// Processes that do not want to be supervised. Usage: adversary TOKEN KIND [stay]: TOKEN is only there to be found in
// the list of processes; with "stay" the first process stays alive once the others are made.
#define _GNU_SOURCE
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static void wait_ms(long ms) {
    struct timespec time = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&time, 0);
}

// Whatever becomes of the test, nobody runs for ever.
static time_t end;

static void stay(void) {
    while (time(0) < end) sleep(1);
    _exit(0);
}

static void ignore_everything(void) {
    for (int signal_number = 1; signal_number < 65; signal_number++) signal(signal_number, SIG_IGN);
}

// Out of the group, the session and the parent's care.
static int is_detached(void) {
    if (fork()) return 0;
    setsid();
    if (fork()) _exit(0);
    setsid();
    return 1;
}

static void run_away(void) {
    // A breath at each step: what nobody has reaped yet would fill the process table of the whole machine, and others test there.
    struct timespec breath = {0, 50000};
    while (time(0) < end) {
        setsid();
        nanosleep(&breath, 0);
        pid_t child = fork();
        if (child > 0) _exit(0);
        if (child < 0) wait_ms(1);
    }
    _exit(0);
}

static void multiply(void) {
    signal(SIGCHLD, SIG_IGN);
    for (int depth = 0; depth < 3; depth++) {
        setsid();
        fork();
    }
    while (time(0) < end) {
        if (fork() == 0) {
            setsid();
            wait_ms(5);
            if (fork() == 0) wait_ms(20);
            _exit(0);
        }
        wait_ms(5);
    }
    _exit(0);
}

int main(int count, char **arguments) {
    if (count < 3) return 2;
    end = time(0) + 15;
    const char *kind = arguments[2];
    if (!strcmp(kind, "daemon") && is_detached()) stay();
    if (!strcmp(kind, "deaf")) {
        ignore_everything();
        if (is_detached()) stay();
    }
    if (!strcmp(kind, "stopped") && is_detached()) {
        raise(SIGSTOP);
        stay();
    }
    if (!strcmp(kind, "subreaper") && is_detached()) {
        prctl(PR_SET_CHILD_SUBREAPER, 1);
        if (is_detached()) stay();
        stay();
    }
    if (!strcmp(kind, "sibling") && syscall(SYS_clone, CLONE_PARENT | SIGCHLD, 0, 0, 0, 0) == 0) {
        setsid();
        stay();
    }
    if (!strcmp(kind, "traced") && is_detached()) {
        ptrace(PTRACE_TRACEME, 0, 0, 0);
        raise(SIGSTOP);
        stay();
    }
    if (!strcmp(kind, "runner"))
        for (int width = 0; width < 3; width++)
            if (fork() == 0) run_away();
    if (!strcmp(kind, "bomb") && fork() == 0) multiply();
    // "holder" is the daemon with the streams open; the others close them.
    if (!strcmp(kind, "holder") && is_detached()) stay();
    wait_ms(50);
    if (count > 3) {
        if (write(1, "ready\n", 6) < 0) return 3;
        stay();
    }
    return 0;
}
