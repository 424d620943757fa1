#ifndef LF_APP_SHA256_H
#define LF_APP_SHA256_H

#include <stddef.h>
#include <stdint.h>

/* SHA-256 (FIPS 180-4). */
void app_sha256(uint8_t digest[32], const void *data, size_t n);

#endif
