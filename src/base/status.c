#include "base/status.h"

#include <stdarg.h>
#include <stdio.h>

lf_status lf_fail(lf_error *err, lf_status status, const char *fmt, ...)
{
    if (err) {
        va_list args;
        va_start(args, fmt);
        err->status = status;
        (void)vsnprintf(err->text, sizeof err->text, fmt, args);
        va_end(args);
    }
    return status;
}

lf_status lf_fail_memory(lf_error *err, const char *what, size_t bytes)
{
    return lf_fail(err, LF_ENOMEM, "out of memory: %s needs %zu bytes", what, bytes);
}

const char *lf_status_name(lf_status status)
{
    switch (status) {
#define LF_STATUS_CASE(name, value, text)                                                                    \
    case name: return text;
        LF_STATUS_LIST(LF_STATUS_CASE)
#undef LF_STATUS_CASE
    }
    return "unknown status";
}
