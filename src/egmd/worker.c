/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <pthread.h>
#include <sys/eventfd.h>

#include "fd-util.h"
#include "log.h"
#include "thread-util.h"
#include "worker.h"

struct Worker {
        worker_work_t work;
        worker_done_t done;
        void *userdata;
        sd_event_source *source;
        sd_event_source *begin; /* NULL: it has begun */
        pthread_t thread;
        int fd; /* eventfd, written by the thread when work() has returned */
        int result;
        Worker *next_abandoned;
};

/* What still runs, or has ended unheard, at exit: to be found here, by whoever looks for leaks. */
static Worker *abandoned = NULL;

static Worker *worker_free(Worker *w) {
        if (!w)
                return NULL;
        w->begin = sd_event_source_disable_unref(w->begin);
        w->source = sd_event_source_disable_unref(w->source);
        w->fd = safe_close(w->fd);
        return mfree(w);
}
DEFINE_TRIVIAL_CLEANUP_FUNC(Worker *, worker_free)

static void *worker_thread(void *p) {
        const uint64_t one = 1;
        Worker *w = p;

        w->result = w->work(w->userdata);
        /* Whoever reads that frees it. */
        if (write(w->fd, &one, sizeof(one)) < 0)
                log_error_errno(-errno, "Failed to report a worker's end: %m");
        return NULL;
}

static int on_done(sd_event_source *s, int fd, uint32_t revents, void *userdata) {
        _cleanup_(worker_freep) Worker *w = userdata;
        uint64_t ended;

        (void) !read(w->fd, &ended, sizeof(ended));
        w->done(w->result, w->userdata);
        return 0;
}

static int begin(Worker *w) {
        const char *name;
        int r;

        r = thread_start(worker_thread, w, &w->thread);
        if (r < 0)
                return r;
        if (sd_event_source_get_description(w->source, &name) >= 0)
                (void) pthread_setname_np(w->thread, name);
        /* Not joined: once it has reported it still has to be given a CPU to end, and on a busy machine the event loop would stand
         * still until then. */
        (void) pthread_detach(w->thread);
        return 0;
}

static int on_begin(sd_event_source *s, void *userdata) {
        Worker *w = userdata;
        int r;

        w->begin = sd_event_source_disable_unref(w->begin);
        r = begin(w);
        if (r < 0) {
                w->done(r, w->userdata);
                worker_free(w);
        }
        return 0;
}

int worker_start(sd_event *event, const char *name, worker_work_t work, worker_done_t done,
                 void *userdata, Worker **ret) {
        _cleanup_(worker_freep) Worker *w = NULL;
        int r;

        assert(event);
        assert(work);
        assert(done);

        w = malloc(sizeof(*w));
        if (!w)
                return -ENOMEM;
        *w = (Worker){.work = work, .done = done, .userdata = userdata, .fd = -EBADF};
        w->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (w->fd < 0)
                return -errno;
        r = sd_event_add_io(event, &w->source, w->fd, EPOLLIN, on_done, w);
        if (r < 0)
                return r;
        (void) sd_event_source_set_description(w->source, name);
        /* Till the loop runs nobody can be told of its end, and what a start has to do first gets the CPU to itself. */
        r = sd_event_get_state(event) == SD_EVENT_INITIAL
                            ? sd_event_add_defer(event, &w->begin, on_begin, w)
                            : begin(w);
        if (r < 0)
                return r;
        if (ret)
                *ret = w;
        (void) TAKE_PTR(w);
        return 0;
}

void worker_abandon(Worker *w) {
        if (!w)
                return;
        w->begin = sd_event_source_disable_unref(w->begin);
        w->source = sd_event_source_disable_unref(w->source);
        w->next_abandoned = abandoned;
        abandoned = w;
}
