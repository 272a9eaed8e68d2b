/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <inttypes.h>

#include "fd-util.h"
#include "format.h"

/* A fragment of a libvirt domain: what is to be merged into one. libvirt makes one backend of all elements with the same path, and
 * adds up their sizes. */

static void put_escaped(FILE *f, const char *s) {
        for (; *s; s++)
                switch (*s) {
                case '&':
                        fputs("&amp;", f);
                        break;
                case '<':
                        fputs("&lt;", f);
                        break;
                case '\'':
                        fputs("&apos;", f);
                        break;
                default:
                        fputc(*s, f);
                }
}

static void put_cell(FILE *f, const Guest *g, size_t i) {
        const GuestNode *n = g->nodes + i;
        uint64_t size = guest_node_has_memory(n) ? g->in->slices[n->slice].size : 0;

        fprintf(f, "      <cell id='%zu'", i);
        if (n->n_cpus > 0)
                fprintf(f, " cpus='%" PRIu64 "-%" PRIu64 "'", n->cpu_first,
                        n->cpu_first + n->n_cpus - 1);
        fprintf(f, " memory='%" PRIu64 "' unit='KiB'>\n        <distances>\n", size / KIB);
        for (size_t k = 0; k < g->n_nodes; k++)
                fprintf(f, "          <sibling id='%zu' value='%u'/>\n", k,
                        guest_distance(g, i, k));
        fputs("        </distances>\n      </cell>\n", f);
}

/* "0009:01:00.0" */
static int parse_address(const char *s, unsigned parts[static 4]) {
        static const char form[] = "xxxx:xx:xx.x";
        size_t part = 0;

        if (strlen(s) != sizeof(form) - 1)
                return -EINVAL;
        memset(parts, 0, 4 * sizeof(*parts));
        for (size_t i = 0; i < sizeof(form) - 1; i++) {
                static const char digits[] = "0123456789abcdef";
                const char *digit = strchr(digits, s[i]);

                if (form[i] != 'x') {
                        if (s[i] != form[i])
                                return -EINVAL;
                        part++;
                        continue;
                }
                if (!digit)
                        return -EINVAL;
                parts[part] = parts[part] * 16 + (unsigned) (digit - digits);
        }
        return 0;
}

static int put_gpu(FILE *f, const Guest *g, size_t i, const char *id, EgmError *reterr) {
        size_t first = guest_gpu_initiator(g, i);
        unsigned a[4];

        if (parse_address(g->in->gpus[i].address, a) < 0)
                return egm_error_set(reterr, EGM_ERROR_INVALID_ARGS,
                                     "'%s' is not a PCI address like 0009:01:00.0",
                                     g->in->gpus[i].address);
        fprintf(f,
                "    <hostdev mode='subsystem' type='pci' managed='no'>\n"
                "      <source>\n"
                "        <address domain='0x%04x' bus='0x%02x' slot='0x%02x' function='0x%x'/>\n"
                "      </source>\n"
                "      <alias name='%s'/>\n"
                "      <acpi nodeset='%zu-%zu'/>\n"
                "    </hostdev>\n",
                a[0], a[1], a[2], a[3], id, first, first + GUEST_INITIATORS_PER_GPU - 1);
        return 0;
}

/* Each GPU of a region has a share of it, to the KiB; the first takes what is left over. */
static uint64_t share_of(const Guest *g, size_t gpu) {
        size_t slice = g->in->gpus[gpu].slice, n = 0, before = 0;
        uint64_t kib = g->in->slices[slice].size / KIB;

        for (size_t i = 0; i < g->in->n_gpus; i++) {
                n += g->in->gpus[i].slice == slice;
                before += g->in->gpus[i].slice == slice && i < gpu;
        }
        return kib / n + (before == 0 ? kib % n : 0);
}

static void put_memory(FILE *f, const Guest *g, size_t gpu, const char *id) {
        fputs("    <memory model='egm' access='shared'>\n"
              "      <source>\n"
              "        <path>",
              f);
        put_escaped(f, g->in->slices[g->in->gpus[gpu].slice].path);
        fprintf(f,
                "</path>\n"
                "      </source>\n"
                "      <target>\n"
                "        <size unit='KiB'>%" PRIu64 "</size>\n"
                "        <node>%zu</node>\n"
                "        <pciDev>%s</pciDev>\n"
                "      </target>\n"
                "    </memory>\n",
                share_of(g, gpu), guest_gpu_memory(g, gpu), id);
}

static int put_devices(FILE *f, const Guest *g, EgmError *reterr) {
        for (unsigned memory = 0; memory < 2; memory++)
                for (size_t i = 0; i < g->in->n_gpus; i++) {
                        _cleanup_free_ char *id = NULL;
                        int r;

                        r = format_gpu_id(g, i, "ua-gpu", &id);
                        if (r < 0)
                                return r;
                        if (strncmp(id, "ua-", 3) != 0)
                                return egm_error_set(reterr, EGM_ERROR_INVALID_ARGS,
                                                     "libvirt takes names of devices that begin "
                                                     "with 'ua-', not '%s'",
                                                     id);
                        if (memory)
                                put_memory(f, g, i, id);
                        else
                                r = put_gpu(f, g, i, id, reterr);
                        if (r < 0)
                                return r;
                }
        return 0;
}

static int put_domain(FILE *f, const Guest *g, EgmError *reterr) {
        int r;

        fprintf(f,
                "<domain>\n"
                "  <memory unit='KiB'>%" PRIu64 "</memory>\n",
                g->size / KIB);
        if (g->in->cpus > 0)
                fprintf(f, "  <vcpu>%" PRIu64 "</vcpu>\n", g->in->cpus);
        fputs("  <cpu>\n    <numa>\n", f);
        for (size_t i = 0; i < g->n_nodes; i++)
                put_cell(f, g, i);
        fputs("    </numa>\n  </cpu>\n  <devices>\n", f);
        r = put_devices(f, g, reterr);
        if (r < 0)
                return r;
        fputs("  </devices>\n</domain>\n", f);
        return 0;
}

/* Its XML has no place for an offset, and each of its elements tells a GPU of the memory. */
static int check_offset(const Guest *g, Format *f, EgmError *reterr) {
        if (!g->in->offset_allowed)
                return format_require_start(g, "libvirt", reterr);
        for (size_t i = 0; i < g->in->n_slices; i++)
                if (g->in->slices[i].offset != 0)
                        return format_note(f,
                                           "libvirt's XML has no place for the offset %s of slice "
                                           "%zu: what stands as its <emulator> must add it",
                                           FORMAT_EXACT(g->in->slices[i].offset), i);
        return 0;
}

int format_guest_libvirt(const Guest *g, Format *f, EgmError *reterr) {
        size_t size;
        FILE *m;
        int r;

        r = format_require_gpus(g, "libvirt", reterr);
        if (r >= 0)
                r = format_require_normal(g, "libvirt", reterr);
        if (r >= 0)
                r = format_require_one_slice_each(g, "libvirt", reterr);
        if (r >= 0)
                r = check_offset(g, f, reterr);
        if (r < 0)
                return r;
        m = open_memstream(&f->text, &size);
        if (!m)
                return -ENOMEM;
        r = put_domain(m, g, reterr);
        if (memstream_close(m, &f->text) < 0 && r >= 0)
                r = -ENOMEM;
        return r;
}
