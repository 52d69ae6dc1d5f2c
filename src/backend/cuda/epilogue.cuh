/* What happens to a warp's 16 rows of products before they leave the registers: bias, GELU, SS1's
 * fold, permuted, interleaved and expanded columns. A thread holds rows lane / 4 (+ 8) and columns
 * 8 j + lane % 4 * 2 (+ 1), with mma.sync as with wgmma. SS1's blocks are 32 wide and its shifts
 * are multiples of 8, so all that is folded onto one number is in one thread's registers. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_CUDA_EPILOGUE_CUH
#define ST_CUDA_EPILOGUE_CUH

#include "pointwise.cuh"

struct st_epilogue_args {
    const __nv_bfloat16 *bias; /* of all groups, or NULL */
    const float *scale;        /* st_epilogue_expand, _gather: Kronecker's row and column of four */
    __nv_bfloat16 *y;          /* st_epilogue_expand, _interleave, _deal: written directly */
    int64_t ldy;
    int rows, cols; /* of y; columns of one group */
    int keep;       /* st_epilogue_gelu*: products with bias go to the second output */
};

struct st_warp_tile {
    int lane, row, col, group; /* first row and column (in its group) */
};

/* The bias of a tile's n columns, fetched before its products and dealt out by shuffles: lane 4 i +
 * q holds pair q of columns 8 (i + 8 m) .. in number m. */
template <int n> struct st_tile_bias {
    uint32_t pair[(n + 63) / 64];
    int lane;
    __device__ __forceinline__ st_tile_bias(const st_epilogue_args &e, const st_warp_tile &t)
        : lane(t.lane)
    {
#pragma unroll
        for (int m = 0; m < (n + 63) / 64; m++) {
            int col = t.col + 64 * m + lane * 2;
            const uint32_t *at = (const uint32_t *)(e.bias + (int64_t)t.group * e.cols + col);
            pair[m] = e.bias && col < e.cols ? __ldg(at) : 0;
        }
    }
    __device__ __forceinline__ float2 of(int j) const
    {
        uint32_t v = __shfl_sync(~0u, pair[j / 8], j % 8 * 4 + lane % 4);
        return make_float2(st_low(v), st_high(v));
    }
};

/* For epilogues that have no bias, or fetch it themselves. */
struct st_no_bias {
    __device__ __forceinline__ st_no_bias(const st_epilogue_args &, const st_warp_tile &) {}
};

/* y = d + bias, or its GELU. */
template <int n, int gelu> struct st_epilogue_plain {
    enum { BOX = 64 };
    typedef st_tile_bias<n> bias;
    template <class OUT>
    static __device__ __forceinline__ void run(float (&d)[n / 2], const st_epilogue_args &e,
                                               const st_warp_tile &t, const bias &b, OUT &out)
    {
#pragma unroll
        for (int box = 0; box < (n + 63) / 64; box++) {
            uint32_t v[8][2], h[8][2];
#pragma unroll
            for (int i = 0; i < 8; i++) {
                int j = box * 8 + i;
                if (j * 8 >= n) {
                    v[i][0] = v[i][1] = h[i][0] = h[i][1] = 0;
                    continue;
                }
                float2 c = b.of(j);
#pragma unroll
                for (int r = 0; r < 2; r++) {
                    float p = d[j * 4 + 2 * r] + c.x, q = d[j * 4 + 2 * r + 1] + c.y;
                    h[i][r] = st_pack(p, q);
                    v[i][r] = gelu ? st_pack(st_gelu<gelu>(p), st_gelu<gelu>(q)) : h[i][r];
                }
            }
            if (t.col + box * 64 >= e.cols) return;
            if (gelu && e.keep) out.second(h, t.col + box * 64, t.group, t.row);
            out.first(v, t.col + box * 64, t.group, t.row);
        }
    }
};

/* y = fold(gelu(d + bias)), n / factor columns; h = d + bias, where wanted. */
template <int n, int gelu, int factor, int hash> struct st_epilogue_fold {
    enum { BOX = n / factor < 64 ? n / factor : 64 };
    typedef st_tile_bias<n> bias;
    template <class OUT>
    static __device__ __forceinline__ void run(float (&d)[n / 2], const st_epilogue_args &e,
                                               const st_warp_tile &t, const bias &b, OUT &out)
    {
        if (e.keep) keep(d, t, b, out);
        int first = t.col / factor;
#pragma unroll
        for (int box = 0; box < n / factor / BOX; box++) {
            uint32_t v[BOX / 8][2];
#pragma unroll
            for (int i = 0; i < BOX / 8; i++) {
                int at = box * (BOX / 8) + i;
                st_gelu_sum<gelu> z[4];
#pragma unroll
                for (int l = 0; l < factor; l++) {
                    int j = (at / 4 * factor + l) * 4 + (at + st_fold_shift(hash, l)) % 4;
                    float2 c = b.of(j);
#pragma unroll
                    for (int r = 0; r < 2; r++) {
                        z[2 * r].add(d[j * 4 + 2 * r] + c.x);
                        z[2 * r + 1].add(d[j * 4 + 2 * r + 1] + c.y);
                    }
                }
                v[i][0] = st_pack(z[0].sum(), z[1].sum());
                v[i][1] = st_pack(z[2].sum(), z[3].sum());
            }
            out.first(v, first + box * BOX, t.group, t.row);
        }
    }
    template <class OUT>
    static __device__ __forceinline__ void keep(float (&d)[n / 2], const st_warp_tile &t,
                                                const bias &b, OUT &out)
    {
#pragma unroll
        for (int box = 0; box < n / 64; box++) {
            uint32_t h[8][2];
#pragma unroll
            for (int i = 0; i < 8; i++) {
                int j = box * 8 + i;
                float2 c = b.of(j);
                h[i][0] = st_pack(d[j * 4] + c.x, d[j * 4 + 1] + c.y);
                h[i][1] = st_pack(d[j * 4 + 2] + c.x, d[j * 4 + 3] + c.y);
            }
            out.second(h, t.col + box * 64, t.group, t.row);
        }
    }
};

/* Monarch's first factor: column parts * c + i of group g goes to column i * (cols of all groups /
 * parts) + g * (n / parts) + c; its weights are packed with rows in the order (i, c), so part i of
 * the tile is stored as it stands. n is a whole group. */
template <int n, int parts> struct st_epilogue_deal {
    enum { BOX = 64 };
    typedef st_no_bias bias;
    template <class OUT>
    static __device__ __forceinline__ void run(float (&d)[n / 2], const st_epilogue_args &e,
                                               const st_warp_tile &t, const bias &, OUT &out)
    {
#pragma unroll
        for (int box = 0; box < n / 64; box++) {
            uint32_t v[8][2];
#pragma unroll
            for (int i = 0; i < 8; i++) {
                int j = box * 8 + i;
                v[i][0] = st_pack(d[j * 4], d[j * 4 + 1]);
                v[i][1] = st_pack(d[j * 4 + 2], d[j * 4 + 3]);
            }
            uint32_t at = out.stage(v);
#pragma unroll
            for (int k = 0; k < 4; k++) {
                int row = k * 4 + t.lane / 8, chunk = t.lane % 8, c = box * 64 + chunk * 8;
                int to = c / (n / parts) * n + t.group * (n / parts) + c % (n / parts);
                uint4 got = out.chunk(at, row, chunk);
                if (t.row + row < e.rows) {
                    *(uint4 *)(e.y + (int64_t)(t.row + row) * e.ldy + to) = got;
                }
            }
            __syncwarp();
        }
    }
};

/* Monarch's second factor: part i of the tile is columns col .. of group i, of four groups:
 * y[4 o + i] = d_i[o] + bias[4 o + i]. */
template <int n> struct st_epilogue_interleave {
    enum { BOX = 64 };
    typedef st_no_bias bias;
    template <class OUT>
    static __device__ __forceinline__ void run(float (&d)[n / 2], const st_epilogue_args &e,
                                               const st_warp_tile &t, const bias &, OUT &out)
    {
#pragma unroll
        for (int box = 0; box < n / 64; box++) {
            if (t.col + box * 16 >= e.cols) return;
            uint32_t at = out.open();
#pragma unroll
            for (int h = 0; h < 2; h++) {
                int j = box * 2 + h, o = t.col + 8 * j + t.lane % 4 * 2;
                float b[8] = {};
                if (e.bias && o < e.cols) st_unpack8(__ldg((const uint4 *)(e.bias + 4 * o)), b);
#pragma unroll
                for (int r = 0; r < 2; r++) {
                    float v[8];
#pragma unroll
                    for (int i = 0; i < 8; i++)
                        v[i] = d[i % 4 * (n / 8) + j * 4 + 2 * r + i / 4] + b[i];
                    out.write(at, t.lane / 4 + 8 * r, 4 * h + t.lane % 4, st_pack8(v));
                }
            }
            out.close(at, 4 * (t.col + box * 16), t.row);
        }
    }
};

/* Kronecker with a row of four: y[4 j + c] = scale[c] d[j] + bias[4 j + c]. */
template <int n> struct st_epilogue_expand {
    enum { BOX = 64 };
    typedef st_no_bias bias;
    template <class OUT>
    static __device__ __forceinline__ void run(float (&d)[n / 2], const st_epilogue_args &e,
                                               const st_warp_tile &t, const bias &, OUT &out)
    {
        float4 s = *(const float4 *)e.scale;
#pragma unroll
        for (int box = 0; box < n / 16; box++) {
            if (t.col + box * 16 >= e.cols) return;
            uint32_t at = out.open();
#pragma unroll
            for (int h = 0; h < 2; h++) {
                int j = box * 2 + h, o = t.col + 8 * j + t.lane % 4 * 2;
                float b[8] = {};
                if (e.bias && o < e.cols) st_unpack8(__ldg((const uint4 *)(e.bias + 4 * o)), b);
#pragma unroll
                for (int r = 0; r < 2; r++) {
                    float p = d[j * 4 + 2 * r], q = d[j * 4 + 2 * r + 1];
                    float v[8] = {p * s.x + b[0], p * s.y + b[1], p * s.z + b[2], p * s.w + b[3],
                                  q * s.x + b[4], q * s.y + b[5], q * s.z + b[6], q * s.w + b[7]};
                    out.write(at, t.lane / 4 + 8 * r, 4 * h + t.lane % 4, st_pack8(v));
                }
            }
            out.close(at, 4 * (t.col + box * 16), t.row);
        }
    }
};

/* Kronecker with a row of four, GELU, and Kronecker with a column of four: what is four times as
 * wide never leaves the registers. y[j] = sum_c scale[4 + c] gelu(scale[c] d[j] + bias[4 j + c]).
 */
template <int n, int gelu> struct st_epilogue_gather {
    enum { BOX = 64 };
    typedef st_no_bias bias;
    static __device__ __forceinline__ float one(float d, float4 s, float4 u, const float *b)
    {
        return u.x * st_gelu<gelu>(fmaf(d, s.x, b[0])) + u.y * st_gelu<gelu>(fmaf(d, s.y, b[1])) +
               u.z * st_gelu<gelu>(fmaf(d, s.z, b[2])) + u.w * st_gelu<gelu>(fmaf(d, s.w, b[3]));
    }
    template <class OUT>
    static __device__ __forceinline__ void run(float (&d)[n / 2], const st_epilogue_args &e,
                                               const st_warp_tile &t, const bias &, OUT &out)
    {
        float4 s = ((const float4 *)e.scale)[0], u = ((const float4 *)e.scale)[1];
#pragma unroll
        for (int box = 0; box < n / 64; box++) {
            uint32_t v[8][2];
            if (t.col + box * 64 >= e.cols) return;
#pragma unroll
            for (int i = 0; i < 8; i++) {
                int j = box * 8 + i, o = t.col + 8 * j + t.lane % 4 * 2;
                float b[8] = {};
                if (e.bias && o < e.cols) st_unpack8(__ldg((const uint4 *)(e.bias + 4 * o)), b);
#pragma unroll
                for (int r = 0; r < 2; r++) {
                    v[i][r] = st_pack(one(d[j * 4 + 2 * r], s, u, b),
                                      one(d[j * 4 + 2 * r + 1], s, u, b + 4));
                }
            }
            out.first(v, t.col + box * 64, 0, t.row);
        }
    }
};

#endif
