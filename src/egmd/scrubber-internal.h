/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "scrub-thread.h"
#include "scrub-width.h"

/* Jobs and the scrubber, for the files of both. */

typedef enum JobState {
        JOB_QUEUED,
        JOB_RUNNING,
        JOB_ENDED, /* `finished` is about to be called, or on the stack */
} JobState;

typedef TAILQ_HEAD(JobList, ScrubJob) JobList;
typedef TAILQ_HEAD(ThreadList, ScrubThread) ThreadList;

struct ScrubJob {
        TAILQ_ENTRY(ScrubJob) link;
        Scrubber *scrubber;
        JobState state;
        bool urgent;
        int node;
        ScrubTask task;
        ThreadList threads; /* that have not said that they ended */
        unsigned n_threads;
        uint64_t reported;
        ScrubOps ops;
        void *userdata;
};

struct Scrubber {
        sd_event_source *inbox_source;
        sd_event_source *work; /* deferred: start and finish jobs */
        sd_event_source *timer;
        ScrubConfig config;
        ScrubInbox inbox;
        ScrubPace pace;
        ScrubNodes nodes;
        ScrubMessage *messages; /* taken from the inbox, oldest first */
        JobList urgent;         /* queued */
        JobList background;     /* queued */
        JobList running;
        JobList ended;        /* never ran, `finished` is due */
        ThreadList gone;      /* said that they ended, yet to be joined */
        unsigned ticks_armed; /* until the timer fires */
        unsigned ticks;       /* since progress was told */
        bool in_callback;
};

/* Whether another one that runs would use the same memory's bandwidth. */
bool scrub_job_has_neighbour(const ScrubJob *j, bool only_urgent);
int scrub_job_add_thread(ScrubJob *j);
unsigned scrubber_count_threads(const Scrubber *s, bool only_urgent);

/* Where it runs; NULL: the configuration says how many threads are to be used. */
ScrubNode *scrub_job_node(ScrubJob *j);
/* From time to time: looks how fast it goes, and has those that run go on with as many threads as are to be tried now. */
void scrubber_measure(Scrubber *s);
/* Whether that is to be soon. */
bool scrubber_is_measuring(Scrubber *s);
/* It runs, and has become urgent. */
void scrub_job_joined(ScrubJob *j);
/* It has ended, and whoever comes after it has been submitted. */
void scrub_job_left(Scrubber *s, int node, bool urgent, uint64_t done);
