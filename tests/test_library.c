/* The installed library as a program outside the tree meets it: header, pkg-config, static and shared, exported symbols. It
 * installs into a temporary folder with make, and so runs from the project's folder; elsewhere it skips. */
#include "testing.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char *prefix;

static int run(const char *fmt, ...)
{
    char command[4096];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(command, sizeof command, fmt, args);
    va_end(args);
    return system(command); /* NOLINT: the commands are the test's own */
}

static int install(void **state)
{
    (void)state;
    prefix = make_temp_dir();
    const char *bin = getenv("LOOKFAR_BIN");
    if (bin || TESTS_SHORT || access("Makefile", R_OK) != 0 || access("build/lookfar", X_OK) != 0) return 0;
    (void)run("make -s VARIANT=release install PREFIX=%s >%s/log 2>&1", prefix, prefix);
    return 0;
}

static int uninstall(void **state)
{
    (void)state;
    remove_tree(prefix);
    free(prefix);
    return 0;
}

static void require_installed(void)
{
    char path[512];
    (void)snprintf(path, sizeof path, "%s/lib/pkgconfig/lookfar.pc", prefix);
    if (access(path, R_OK) == 0) return;
    print_message("skipped: make install did not run here\n");
    skip();
}

static void test_header_compiles_alone(void **state)
{
    (void)state;
    require_installed();
    assert_int_equal(
        run("echo '#include <lookfar.h>' | cc -std=c11 -Wall -Wextra -pedantic -Werror -fsyntax-only -I%s/include -x c -",
            prefix),
        0);
    assert_int_equal(
        run("echo '#include <lookfar.h>' | cc -std=c++11 -Wall -Wextra -pedantic -Werror -fsyntax-only -I%s/include -x c++ -",
            prefix),
        0);
}

static void test_example_builds_and_runs(void **state)
{
    (void)state;
    require_installed();
    const char *pkg = "PKG_CONFIG_PATH=%s/lib/pkgconfig pkg-config";
    char pkg_config[600];
    (void)snprintf(pkg_config, sizeof pkg_config, pkg, prefix);
    if (run("command -v pkg-config >/dev/null") != 0) {
        print_message("skipped: pkg-config is not installed\n");
        skip();
    }
    assert_int_equal(
        run("cc -std=c11 -Wall -Wextra -Werror examples/embed.c $(%s --cflags --libs lookfar) -o %s/embed",
            pkg_config, prefix),
        0);
    assert_int_equal(
        run("cc -std=c11 examples/embed.c $(%s --cflags lookfar) %s/lib/liblookfar.a $(%s --static --libs-only-l lookfar "
            "| sed s/-llookfar//) -pthread -o %s/embed-static",
            pkg_config, prefix, pkg_config, prefix),
        0);
    const char *model = require_data("models/hf/stories260K");
    assert_int_equal(run("LD_LIBRARY_PATH=%s/lib %s/embed %s 'Once upon a time' 'The dog' >%s/shared.txt",
                         prefix, prefix, model, prefix),
                     0);
    assert_int_equal(
        run("%s/embed-static %s 'Once upon a time' 'The dog' >%s/static.txt", prefix, model, prefix), 0);
    assert_int_equal(run("cmp -s %s/shared.txt %s/static.txt", prefix, prefix), 0);
    assert_int_equal(run("grep -q ' | ' %s/shared.txt", prefix), 0);
}

/* The functions that the header declares are the functions that the two shared libraries export, with a version; and who runs
 * models only does not load what training needs. */
static void test_exported_symbols(void **state)
{
    (void)state;
    require_installed();
    assert_int_equal(run("for l in lookfar lookfar-train; do nm -D --defined-only %s/lib/lib$l.so; done | "
                         "awk '$2 == \"T\" { print $3 }' | sort >%s/exported",
                         prefix, prefix),
                     0);
    assert_int_equal(run("! readelf -d %s/lib/liblookfar.so | grep -qE 'dnnl|gomp|omp'", prefix), 0);
    assert_int_equal(
        run("cc -E -P -I%s/include %s/include/lookfar.h | tr '\\n;' ' \\n' | grep -oE '\\blf_[a-z_]+ *\\(' | tr -d ' (' | "
            "sed 's/$/@@LOOKFAR_0/' | sort -u >%s/declared",
            prefix, prefix, prefix),
        0);
    if (run("diff %s/declared %s/exported", prefix, prefix) != 0)
        fail_msg("the exported symbols are not those of lookfar.h");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_header_compiles_alone),
        cmocka_unit_test(test_example_builds_and_runs),
        cmocka_unit_test(test_exported_symbols),
    };
    return cmocka_run_group_tests(tests, install, uninstall);
}
