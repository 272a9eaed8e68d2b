/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <semaphore.h>

#include "attempt.h"

/* Threads, and other programs. */

typedef struct Job {
        const Actor *actor;
        attempt_t attempt;
        int r;
} Job;

static void *run_job(void *userdata) {
        Job *job = userdata;

        job->r = job->attempt(job->actor);
        return NULL;
}

static int in_thread(const Actor *a, attempt_t f) {
        Job job = {a, f, 0};
        pthread_t thread;
        int r;

        r = pthread_create(&thread, NULL, run_job, &job);
        if (r != 0)
                return -r;
        (void) pthread_join(thread, NULL);
        return job.r;
}

/* Created before the process was bound. */
static sem_t begin, end;
static Job early_job;

static void *run_early(void *userdata) {
        for (;;) {
                (void) sem_wait(&begin);
                early_job.r = early_job.attempt(early_job.actor);
                (void) sem_post(&end);
        }
        return NULL;
}

static int in_early_thread(const Actor *a, attempt_t f) {
        early_job = (Job){a, f, 0};
        (void) sem_post(&begin);
        (void) sem_wait(&end);
        return early_job.r;
}

/* Its leader is gone, the process is not. */
static void *run_alone(void *userdata) {
        Job *job = userdata;
        char state[256] = "", *at;

        do {
                FILE *f = fopen("/proc/self/stat", "re");

                if (!f || !fgets(state, sizeof(state), f))
                        _exit(EXIT_FAILURE);
                (void) fclose(f);
                at = strrchr(state, ')');
        } while (!at || at[2] != 'Z');
        _exit(to_status(job->attempt(job->actor)));
}

static int without_leader(const Actor *a, attempt_t f) {
        pid_t pid = fork();

        if (pid == 0) {
                static Job job;
                pthread_t thread;

                job = (Job){a, f, 0};
                if (pthread_create(&thread, NULL, run_alone, &job) != 0)
                        _exit(EXIT_FAILURE);
                pthread_exit(NULL);
        }
        return pid < 0 ? -errno : wait_for(pid);
}

static int own_leaderless(const Actor *a) {
        return without_leader(a, look_own);
}

static int before_leaderless(const Actor *a) {
        return without_leader(a, look_before);
}

/* ---- exec ---- */

static _Noreturn void execute(const Actor *a, uint64_t offset) {
        char fd[16], at[32], size[32];
        int copy = fcntl(a->own.fd, F_DUPFD, 100);

        (void) snprintf(fd, sizeof(fd), "%d", copy);
        (void) snprintf(at, sizeof(at), "%" PRIu64, offset);
        (void) snprintf(size, sizeof(size), "%" PRIu64, PAGE);
        (void) execl("/usr/bin/egm-attempts", "egm-attempts", "look", fd, at, size, NULL);
        _exit(to_status(-errno));
}

static int execute_own(const Actor *a) {
        execute(a, a->own.offset);
}

static int execute_before(const Actor *a) {
        execute(a, a->own.offset - PAGE);
}

static int execute_own_by_thread(const Actor *a) {
        return in_thread(a, execute_own);
}

static int execute_before_by_thread(const Actor *a) {
        return in_thread(a, execute_before);
}

static int execute_own_leaderless(const Actor *a) {
        return without_leader(a, execute_own);
}

static void prepare_thread(Actor *a) {
        pthread_t thread;

        if (sem_init(&begin, 0, 0) < 0 || sem_init(&end, 0, 0) < 0 ||
            pthread_create(&thread, NULL, run_early, NULL) != 0)
                _exit(EXIT_FAILURE);
}

static void play_thread(Actor *a) {
        report(a, "thread-own", in_thread(a, look_own));
        report(a, "thread-before", in_thread(a, look_before));
        report(a, "earlier-thread-own", in_early_thread(a, look_own));
        report(a, "earlier-thread-before", in_early_thread(a, look_before));
        report(a, "leader-gone-own", own_leaderless(a));
        report(a, "leader-gone-before", before_leaderless(a));
        report(a, "exec-own", in_child(a, execute_own));
        report(a, "exec-before", in_child(a, execute_before));
        report(a, "exec-by-thread-own", in_child(a, execute_own_by_thread));
        report(a, "exec-by-thread-before", in_child(a, execute_before_by_thread));
        report(a, "exec-leader-gone-own", execute_own_leaderless(a));
}

const Scene scene_thread = {.name = "thread", .prepare = prepare_thread, .play = play_thread};
