/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "test.h"
#include <fcntl.h>

#include "fd-util.h"
#include "sim-config.h"

#define MEMORY (64 * GIB)

static void assert_message(const EgmError *e, const char *part) {
        assert_int_equal(e->kind, EGM_ERROR_INVALID_ARGS);
        assert_non_null(e->message);
        if (!strstr(e->message, part))
                fail_msg("\"%s\" does not say \"%s\"", e->message, part);
}

static void test_gb200(void **state) {
        static const char *const gpus[2][2] = {{"0008:01:00.0", "0009:01:00.0"},
                                               {"0018:01:00.0", "0019:01:00.0"}};
        _cleanup_(sim_config_freep) SimConfig *c = NULL;

        assert_int_equal(sim_config_make("gb200", 1, 1024 * GIB, &c, NULL), 0);
        assert_int_equal(c->n_regions, 2);
        for (size_t i = 0; i < 2; i++) {
                const SimRegion *s = c->regions + i;

                assert_string_equal(s->name, i == 0 ? "egm4" : "egm5");
                assert_int_equal(s->size, UINT64_C(0x6fc0000000));
                assert_int_equal(s->node, i);
                assert_int_equal(s->socket, i);
                assert_int_equal(s->variant, SIM_VARIANT_S4);
                assert_int_equal(s->n_gpus, 2);
                for (size_t k = 0; k < 2; k++)
                        assert_string_equal(s->gpus[k], gpus[i][k]);
        }
}

static void test_gh200(void **state) {
        _cleanup_(sim_config_freep) SimConfig *c = NULL;

        assert_int_equal(sim_config_make("gh200", 1000, MEMORY, &c, NULL), 0);
        assert_int_equal(c->n_regions, 1);
        assert_string_equal(c->regions[0].name, "egm4");
        assert_int_equal(c->regions[0].size, 474 * MIB); /* of 475.136 */
        assert_int_equal(c->regions[0].n_gpus, 1);
        assert_string_equal(c->regions[0].gpus[0], "0009:01:00.0");
}

static void test_scale(void **state) {
        static const struct {
                uint64_t size, scale, result;
        } table[] = {
                        {4 * GIB, 1, 4 * GIB},
                        {64 * KIB, 1, 64 * KIB}, /* only what is divided is rounded */
                        {4 * GIB, 4, GIB},
                        {457728 * MIB, 64, 7152 * MIB},
                        {457728 * MIB, 1000, 456 * MIB},
                        {4 * MIB, 2, 2 * MIB},
                        {4 * MIB, 3, 0},
                        {4 * GIB, UINT64_MAX, 0},
        };

        for (size_t i = 0; i < ELEMENTSOF(table); i++)
                assert_int_equal(sim_config_scale(table[i].size, table[i].scale), table[i].result);
}

static void test_refusals(void **state) {
        static const struct {
                const char *what;
                uint64_t scale, memory;
                const char *says[3];
        } table[] = {
                        {"gb200", 1, 24 * GIB, {"gb200: simulating 894G", "24G", "--scale=128"}},
                        {"gb200", 16, 24 * GIB, {"55.9G", "24G", "--scale=128"}},
                        {"gh200", 1, 463 * GIB, {"464G", "463G", "--scale=4"}},
                        {"gb200", 0, MEMORY, {"--scale=0"}},
                        {"gb200", 1000000, MEMORY, {"--scale=1000000", "egm4", "447G"}},
                        {"gb300", 1, MEMORY, {"gb300: neither gh200 nor gb200", "No such file"}},
                        {"/", 1, MEMORY, {"/: neither", "directory"}},
                        {"", 1, MEMORY, {"neither"}},
        };

        for (size_t i = 0; i < ELEMENTSOF(table); i++) {
                _cleanup_egm_error_ EgmError e = EGM_ERROR_NULL;
                SimConfig *c = (SimConfig *) 1;

                assert_true(sim_config_make(table[i].what, table[i].scale, table[i].memory, &c,
                                            &e) < 0);
                assert_ptr_equal(c, (SimConfig *) 1);
                for (size_t k = 0; k < ELEMENTSOF(table[i].says) && table[i].says[k]; k++)
                        assert_message(&e, table[i].says[k]);
        }
}

/* What is suggested works. */
static void test_suggestion_is_enough(void **state) {
        static const uint64_t memories[] = {256 * MIB, GIB, 3 * GIB, 23 * GIB, 893 * GIB};

        for (size_t i = 0; i < ELEMENTSOF(memories); i++) {
                _cleanup_(sim_config_freep) SimConfig *c = NULL;
                _cleanup_egm_error_ EgmError e = EGM_ERROR_NULL;
                unsigned long long scale;

                assert_true(sim_config_make("gb200", 1, memories[i], &c, &e) < 0);
                assert_int_equal(sscanf(strstr(e.message, "--scale="), "--scale=%llu", &scale), 1);
                assert_int_equal(sim_config_make("gb200", scale, memories[i], &c, NULL), 0);
        }
}

static void test_file(void **state) {
        static const char text[] =
                        "{\"regions\": ["
                        "  {\"faults\": {\"open_errno\": \"EIO\", \"open_gate\": \"/gate\","
                        "               \"held\": true, \"useless\": true, \"list\": \"growing\","
                        "               \"mmap_fail_at\": 3,"
                        "               \"bad\": [{\"offset\": 65536, \"size\": \"64K\"}]},"
                        "   \"retired\": [{\"size\": \"64K\", \"offset\": \"1M\"},"
                        "               {\"offset\": 0, \"size\": 131072}],"
                        "   \"gpus\": [\"0009:01:00.0\", \"0008:01:00.0\"],"
                        "   \"variant\": \"K2\", \"socket\": 1, \"node\": 2, \"size\": \"4G\","
                        "   \"name\": \"egm4\"},"
                        "  {\"name\": \"egm15\", \"size\": 65536}]}";
        char path[] = "/tmp/test-sim-config-XXXXXX";
        _cleanup_(sim_config_freep) SimConfig *c = NULL, *scaled = NULL;
        _cleanup_close_ int fd = mkstemp(path);
        const SimRegion *s;

        assert_true(fd >= 0);
        assert_int_equal(write_all(fd, text, strlen(text)), 0);
        assert_int_equal(sim_config_make(path, 1, MEMORY, &c, NULL), 0);
        assert_int_equal(unlink(path), 0);
        assert_int_equal(c->n_regions, 2);

        s = c->regions;
        assert_string_equal(s->name, "egm4");
        assert_int_equal(s->size, 4 * GIB);
        assert_int_equal(s->node, 2);
        assert_int_equal(s->socket, 1);
        assert_int_equal(s->variant, SIM_VARIANT_K2);
        assert_int_equal(s->n_gpus, 2);
        assert_string_equal(s->gpus[0], "0008:01:00.0");
        assert_string_equal(s->gpus[1], "0009:01:00.0");
        assert_int_equal(s->retired.n, 2);
        assert_int_equal(s->retired.items[0].size, 128 * KIB);
        assert_int_equal(s->retired.items[1].offset, MIB);
        assert_int_equal(s->faults.open_errno, EIO);
        assert_string_equal(s->faults.open_gate, "/gate");
        assert_true(s->faults.held && s->faults.useless);
        assert_int_equal(s->faults.list, SIM_LIST_GROWING);
        assert_int_equal(s->faults.mmap_fail_at, 3);
        assert_int_equal(s->faults.bad.n, 1);
        assert_int_equal(s->faults.bad.items[0].offset, 64 * KIB);
        assert_int_equal(s->faults.bad.items[0].size, 64 * KIB);

        s++;
        assert_string_equal(s->name, "egm15");
        assert_int_equal(s->size, 64 * KIB);
        assert_int_equal(s->node, -1);
        assert_int_equal(s->socket, -1);
        assert_int_equal(s->variant, SIM_VARIANT_S4);
        assert_int_equal(s->n_gpus + s->retired.n + s->faults.bad.n, 0);
        assert_null(s->faults.open_gate);

        assert_int_equal(sim_config_parse("{\"regions\":[{\"name\":\"egm4\",\"size\":\"4G\"}]}",
                                          "f", 8, &scaled, NULL),
                         0);
        assert_int_equal(scaled->regions[0].size, 512 * MIB);
}

#define REGION(text) "{\"regions\":[{\"name\":\"egm4\",\"size\":\"1G\"," text "}]}"

static void test_bad_files(void **state) {
        static const struct {
                const char *text;
                const char *says;
        } table[] = {
                        {"", "f: the file: not JSON at byte 0: unexpected end"},
                        {"{\"regions\":[", "f: the file: not JSON at byte 12: unexpected end"},
                        {"{\"regions\":[]} x", "f: the file: not JSON at byte 15"},
                        {"{\"regions\":[],}", "f: the file: not JSON"},
                        {"{\"regions\":[[[[[[[[[[[[[[]]]]]]]]]]]]]]}", "f: the file: not JSON"},
                        {"{\"regions\":\"\xff\"}", "f: the file: not JSON"},
                        {"[]", "f: the file: not an object"},
                        {"null\n", "f: the file: not an object"},
                        {"1\n", "f: the file: not an object"},
                        {"1", "f: the file: not JSON at byte 1: unexpected end"},
                        {"{}", "f: regions: missing"},
                        {"{\"regions\":[],\"x\":1}", "f: x: unknown key"},
                        {"{\"regions\":[]}", "f: regions: 0 items, at least 1"},
                        {"{\"regions\":{}}", "f: regions: not a list"},
                        {"{\"regions\":null}", "f: regions: not a list"},
                        {"{\"regions\":[1]}", "f: regions[0]: not an object"},
                        {"{\"regions\":[{}]}", "f: regions[0].name: missing"},
                        {"{\"regions\":[{\"name\":\"egm4\"}]}", "f: regions[0].size: missing"},
                        {"{\"regions\":[{\"name\":4}]}", "f: regions[0].name: not text"},
                        {"{\"regions\":[{\"name\":\"egm\"}]}", "\"egm\" is not"},
                        {"{\"regions\":[{\"name\":\"egm04\"}]}", "\"egm04\" is not"},
                        {"{\"regions\":[{\"name\":\"../egm4\"}]}", "is not"},
                        {"{\"regions\":[{\"name\":\"egm4\\u0000\"}]}", "NUL"},
                        {"{\"regions\":[{\"name\":\"egm4\",\"size\":\"1G\"},"
                         "{\"name\":\"egm4\",\"size\":\"1G\"}]}",
                         "f: regions[1].name: \"egm4\" is there twice"},
                        {"{\"regions\":[{\"name\":\"egm4\",\"size\":0}]}",
                         "f: regions[0].size: nothing is left"},
                        {"{\"regions\":[{\"name\":\"egm4\",\"size\":-1}]}",
                         "f: regions[0].size: negative"},
                        {"{\"regions\":[{\"name\":\"egm4\",\"size\":4096}]}",
                         "f: regions[0].size: 4096 is not a multiple of 64K"},
                        {"{\"regions\":[{\"name\":\"egm4\",\"size\":1.5}]}",
                         "f: regions[0].size: not a size"},
                        {"{\"regions\":[{\"name\":\"egm4\",\"size\":\"1.5G\"}]}",
                         "f: regions[0].size: \"1.5G\" is not a size"},
                        {"{\"regions\":[{\"name\":\"egm4\",\"size\":\"99E\"}]}",
                         "f: regions[0].size: \"99E\" is too large"},
                        {"{\"regions\":[{\"name\":\"egm4\",\"size\":\"8E\"}]}",
                         "f: regions[0].size: 9223372036854775808 is too large"},
                        {"{\"regions\":[{\"name\":\"egm4\",\"size\":18446744073709551616}]}",
                         "f: the file: a number beyond 18446744073709551615"},
                        {REGION("\"node\":0,\"node\":0"), "f: the file: a key is there twice"},
                        {REGION("\"node\":0,\"no\\u0000\":0"),
                         "f: the file: a NUL character in it"},
                        {REGION("\"\\n\\u001b[2J\":0"), "f: regions[0].??[2J: unknown key"},
                        {REGION("\"variant\":\"\\u009bA\\n\""),
                         "f: regions[0].variant: \"??A?\" is not K2"},
                        {REGION("\"colour\":1"), "f: regions[0].colour: unknown key"},
                        {REGION("\"node\":\"0\""), "f: regions[0].node: not a number"},
                        {REGION("\"node\":-2"), "f: regions[0].node: -2 is not between -1 and"},
                        {REGION("\"socket\":4294967296"), "f: regions[0].socket: 4294967296"},
                        {REGION("\"variant\":\"K9\""), "f: regions[0].variant: \"K9\" is not K2"},
                        {REGION("\"variant\":null"), "f: regions[0].variant: not text"},
                        {REGION("\"gpus\":\"0008:01:00.0\""), "f: regions[0].gpus: not a list"},
                        {REGION("\"gpus\":[\"8:1:0.0\"]"), "f: regions[0].gpus[0]: \"8:1:0.0\""},
                        {REGION("\"gpus\":[\"0008:01:00.0\",\"0008:01:00.0\"]"),
                         "f: regions[0].gpus[1]: \"0008:01:00.0\" is there twice"},
                        {REGION("\"retired\":[{\"offset\":0}]"),
                         "f: regions[0].retired[0].size: missing"},
                        {REGION("\"retired\":[{\"offset\":0,\"size\":0}]"),
                         "f: regions[0].retired[0]: offset 0 and size 0"},
                        {REGION("\"retired\":[{\"offset\":4096,\"size\":65536}]"),
                         "f: regions[0].retired[0]: offset 0x1000"},
                        {REGION("\"retired\":[{\"offset\":0,\"size\":4096}]"),
                         "f: regions[0].retired[0]: offset 0 and size 0x1000"},
                        {REGION("\"retired\":[{\"offset\":\"1G\",\"size\":65536}]"),
                         "f: regions[0].retired[0]: offset 0x40000000"},
                        {REGION("\"retired\":[{\"offset\":\"2G\",\"size\":65536}]"),
                         "f: regions[0].retired[0]: offset 0x80000000"},
                        {REGION("\"retired\":[{\"offset\":\"960M\",\"size\":\"128M\"}]"),
                         "lead beyond the region's 0x40000000"},
                        {REGION("\"retired\":[{\"offset\":\"64K\",\"size\":18446744073709486080}]"),
                         "lead beyond the region's 0x40000000"},
                        {REGION("\"retired\":[{\"offset\":0,\"size\":65536,\"x\":1}]"),
                         "f: regions[0].retired[0].x: unknown key"},
                        {REGION("\"faults\":[]"), "f: regions[0].faults: not an object"},
                        {REGION("\"faults\":{\"x\":1}"), "f: regions[0].faults.x: unknown key"},
                        {REGION("\"faults\":{\"held\":1}"),
                         "f: regions[0].faults.held: not true or false"},
                        {REGION("\"faults\":{\"open_errno\":\"EEK\"}"),
                         "f: regions[0].faults.open_errno: \"EEK\" is no"},
                        {REGION("\"faults\":{\"open_errno\":5}"),
                         "f: regions[0].faults.open_errno: not text"},
                        {REGION("\"faults\":{\"list\":\"x\"}"),
                         "f: regions[0].faults.list: \"x\" is no"},
                        {REGION("\"faults\":{\"mmap_fail_at\":0}"),
                         "f: regions[0].faults.mmap_fail_at: counts from 1"},
                        {REGION("\"faults\":{\"bad\":[{\"offset\":1,\"size\":4096}]}"),
                         "f: regions[0].faults.bad[0]: offset 0x1"},
        };

        for (size_t i = 0; i < ELEMENTSOF(table); i++) {
                _cleanup_egm_error_ EgmError e = EGM_ERROR_NULL;
                SimConfig *c = (SimConfig *) 1;

                if (sim_config_parse(table[i].text, "f", 1, &c, &e) >= 0)
                        fail_msg("taken: %s", table[i].text);
                assert_ptr_equal(c, (SimConfig *) 1);
                assert_message(&e, table[i].says);
        }
}

static void test_too_many(void **state) {
        _cleanup_egm_error_ EgmError e = EGM_ERROR_NULL;
        _cleanup_free_ char *text = calloc(300, 64);
        SimConfig *c = NULL;
        char *at = text;

        assert_non_null(text);
        at = stpcpy(at, "{\"regions\":[");
        for (unsigned i = 0; i < 257; i++)
                at += sprintf(at, "%s{\"name\":\"egm%u\",\"size\":65536}", i > 0 ? "," : "", i);
        (void) stpcpy(at, "]}");
        assert_true(sim_config_parse(text, "f", 1, &c, &e) < 0);
        assert_message(&e, "f: regions: 257 items, at most 256");
}

static void test_not_text(void **state) {
        _cleanup_egm_error_ EgmError e = EGM_ERROR_NULL, too_long = EGM_ERROR_NULL;
        char path[] = "/tmp/test-sim-config-XXXXXX";
        _cleanup_close_ int fd = mkstemp(path);
        SimConfig *c = NULL;

        assert_true(fd >= 0);
        assert_int_equal(write_all(fd, "{}\0x", 4), 0);
        assert_true(sim_config_make(path, 1, MEMORY, &c, &e) < 0);
        assert_message(&e, "a NUL byte at offset 2");
        assert_int_equal(ftruncate(fd, 2 * MIB), 0);
        assert_true(sim_config_make(path, 1, MEMORY, &c, &too_long) < 0);
        assert_message(&too_long, "too long");
        assert_int_equal(unlink(path), 0);
}

static void test_info(void **state) {
        _cleanup_(sim_config_freep) SimConfig *c = NULL;
        _cleanup_(region_info_freep) RegionInfo *i = NULL;

        assert_int_equal(sim_config_make("gb200", 64, MEMORY, &c, NULL), 0);
        assert_int_equal(sim_region_info(c->regions + 1, &i), 0);
        assert_string_equal(i->name, "egm5");
        assert_int_equal(i->pxm, 5);
        assert_string_equal(i->devnode, "memfd:egm5");
        assert_int_equal(i->size, 7152 * MIB);
        assert_null(i->size_problem);
        assert_int_equal(i->node, 1);
        assert_int_equal(i->socket, 1);
        assert_int_equal(i->n_gpus, 2);
        assert_string_equal(i->gpus[0].address, "0018:01:00.0");
        assert_string_equal(i->gpus[1].address, "0019:01:00.0");
        assert_int_equal(i->gpus[1].node, 1);
        assert_int_equal(i->devnum, 0);
}

/* A region made from a file is one that works as the file says. */
static void test_provider(void **state) {
        _cleanup_(sim_config_freep) SimConfig *c = NULL;
        _cleanup_(provider_freep) Provider *p = NULL;
        _cleanup_ranges_ Ranges l = {};

        assert_int_equal(sim_config_parse(REGION("\"variant\":\"S3\",\"retired\":"
                                                 "[{\"offset\":\"1M\",\"size\":\"64K\"}],"
                                                 "\"faults\":{\"mmap_fail_at\":100000,\"bad\":"
                                                 "[{\"offset\":0,\"size\":\"64K\"}]}"),
                                          "f", 1, &c, NULL),
                         0);
        assert_int_equal(sim_region_provider(c->regions, &p), 0);
        c = sim_config_free(c);
        assert_int_equal(provider_open(p), 0);
        assert_int_equal(provider_probe(p), 0);
        assert_true(p->offsets);
        assert_int_equal(p->size, GIB);
        assert_int_equal(provider_retired(p, &l), 0);
        assert_int_equal(l.n, 1);
        assert_int_equal(l.items[0].offset, MIB);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                        cmocka_unit_test(test_gb200),
                        cmocka_unit_test(test_gh200),
                        cmocka_unit_test(test_scale),
                        cmocka_unit_test(test_refusals),
                        cmocka_unit_test(test_suggestion_is_enough),
                        cmocka_unit_test(test_file),
                        cmocka_unit_test(test_bad_files),
                        cmocka_unit_test(test_too_many),
                        cmocka_unit_test(test_not_text),
                        cmocka_unit_test(test_info),
                        cmocka_unit_test(test_provider),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
