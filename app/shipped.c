/* Where the models are that ship with the project. */
#include "app.h"

#include <string.h>
#include <unistd.h>

bool app_find_shipped(char *out, size_t size, const char *name)
{
    char program[1024];
    (void)snprintf(out, size, "models/%s", name);
    if (access(out, R_OK) == 0) return true;
    const ssize_t n = readlink("/proc/self/exe", program, sizeof program - 1);
    if (n <= 0) return false;
    program[n] = '\0';
    for (int i = 0; i < 2; i++) { /* PREFIX/bin/lookfar */
        char *slash = strrchr(program, '/');
        if (!slash) return false;
        *slash = '\0';
    }
    (void)snprintf(out, size, "%s/share/lookfar/models/%s", program, name);
    return access(out, R_OK) == 0;
}
