/* Whole files of text. */
#include "app.h"

#include "base/status.h"

#include <errno.h>
#include <string.h>

lf_status app_read_text(lf_bytes *out, const char *path, lf_error *err)
{
    char chunk[1 << 14];
    size_t n;
    lf_status status = LF_OK;
    const bool is_stdin = strcmp(path, "-") == 0;
    FILE *f = is_stdin ? stdin : fopen(path, "rb");
    if (!f) return lf_fail(err, LF_EIO, "%s: cannot open: %s", path, strerror(errno));
    while (status == LF_OK && (n = fread(chunk, 1, sizeof chunk, f)) > 0)
        if (!lf_bytes_append(out, chunk, n)) status = lf_fail_memory(err, path, out->len + n);
    if (ferror(f)) status = lf_fail(err, LF_EIO, "%s: cannot read: %s", path, strerror(errno));
    if (!is_stdin) (void)fclose(f);
    return status;
}

lf_status app_read_template(lf_bytes *out, const char *arg, lf_error *err)
{
    lf_status status = LF_OK;
    if (strcmp(arg, "chatml") == 0)
        return lf_bytes_append(out, arg, strlen(arg)) ? LF_OK : lf_fail_memory(err, arg, strlen(arg));
    LF_TRY(app_read_text(out, arg, err));
    if (out->len == 0)
        status = lf_fail(err, LF_EINVAL, "%s: found an empty file, expected a chat template", arg);
done:
    return status;
}
