#include "base/folder.h"

#include "base/mem.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void lf_folder_sync(const char *path)
{
    const char *slash = strrchr(path, '/');
    char *folder = slash ? lf_strndup(path, (size_t)(slash - path) + 1) : lf_strndup(".", 1);
    const int fd = folder ? open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (fd >= 0) {
        (void)fsync(fd);
        (void)close(fd);
    }
    free(folder);
}
