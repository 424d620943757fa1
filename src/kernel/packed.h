/* Weights in the one layout that serves every number of rows.
 *
 * A matrix W (n_out, n_in) is stored as tiles of 16 outputs over all inputs. A vector lane is an output; each
 * lane accumulates over the inputs in ascending order, whatever the number of rows. That fixed order is what
 * makes the Row law hold (docs/ARCHITECTURE.md).
 *
 *   f32   float    [n_in][16]
 *   f16   uint16_t [n_in][16]
 *   bf16  uint16_t [ceil(n_in / 2)][16][2]               pairs of inputs, as vdpbf16ps takes them
 *   q8_0  records of 64 inputs, 1088 bytes:  uint8_t q[2][8][16][4] (value + 128), f16 d[2][16]
 *   q4_0  records of 64 inputs, 576 bytes:   uint8_t q[2][4][16][4] (nibbles), f16 d[2][16]
 *   q4_k  records of 256 inputs, 2368 bytes: uint8_t q[8][4][16][4], sc[8][16], m[8][16], f16 d[16], dmin[16]
 *   q5_k  records of 256 inputs, 2880 bytes: as q4_k, with uint8_t h[8][16][4] after q
 *   q6_k  records of 256 inputs, 3392 bytes: uint8_t ql[8][4][16][4], qh[8][2][16][4], int8_t sc[16][16], f16 d[16],
 *                                            32 bytes of zeros
 *
 * In a block of 32 inputs, group g (0..7) is inputs 4g .. 4g+3. q8_0 stores [group][output][input of the
 * group]. Four-bit values put group g (0..3) in the low and group g + 4 in the high nibble of vector g.
 * q5_k's h holds the fifth bit of group g in bit g of byte [output][input]. q6_k's qh holds the upper two
 * bits of group g in bits 2 (g / 2) .. of vector g % 2.
 *
 * The last tile is filled up with zero weights, the last record of q8_0 and q4_0 with a zero block. */
#ifndef LF_KERNEL_PACKED_H
#define LF_KERNEL_PACKED_H

#include "base/status.h"
#include "tensor/dtype.h"

enum { LF_TILE_OUT = 16 };

typedef struct lf_packed {
    lf_dtype dtype;
    int n_out, n_in;
    int n_tiles;       /* ceil(n_out / 16) */
    size_t tile_bytes; /* a multiple of 64 */
    uint8_t *data;     /* (n_tiles, tile_bytes), 64-byte aligned, owned */
} lf_packed;

/* Plans and allocates: sets every field, data zeroed. LF_EINVAL when n_in is not a multiple of the dtype's
 * block length; LF_ENOMEM. Free with lf_packed_free. */
lf_status lf_packed_init(lf_packed *w, lf_dtype dtype, int n_out, int n_in, lf_error *err);
void lf_packed_free(lf_packed *w);

/* The bytes lf_packed_init would allocate; false when they overflow or n_in does not fit the blocks. */
bool lf_packed_bytes(lf_dtype dtype, int n_out, int n_in, size_t *out);

/* Fills tile i_tile from its 16 source rows: rows[j] (n_in elements of src_dtype), NULL for a row past n_out.
 * When src_dtype differs from w->dtype the row goes through float. scratch: lf_pack_scratch_bytes(w) bytes,
 * 64-aligned. Tiles may be filled from several threads, each with its own scratch. */
void lf_pack_tile(lf_packed *w, int i_tile, const void *const rows[LF_TILE_OUT], lf_dtype src_dtype,
                  void *scratch);
size_t lf_pack_scratch_bytes(const lf_packed *w);

/* y (n_in) = row i_out of W as floats, bit for bit the source's values (embedding look-up, tests). */
void lf_unpack_row(float *y, const lf_packed *w, int i_out);

#endif
