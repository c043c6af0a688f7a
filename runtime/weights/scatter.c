#include "runtime/weights/scatter.h"

#include <stdlib.h>

#include "runtime/base/checked.h"
#include "runtime/base/host.h"
#include "runtime/weights/tensor_cut.h"

struct hw_scatter {
    hw_comm *comm;
    const hw_model *m;
    hw_checkpoint *c; /* NULL on all but rank 0 */
    int n_ranks;
    hw_shard *shards;         /* [n_ranks] */
    uint64_t *planned, *sent; /* [n_ranks] bytes for each rank; rank 0's own stay 0 */
    unsigned char *types;     /* [n_params] hw_dtype of what is stored, in the order of hw_params_next */
    size_t n_params, next;    /* next: the parameter of the next hw_scatter_locate */
    hw_tensor_info of_type[HW_I32 + 1]; /* all that ranks other than 0 know of a tensor */
};

static const hw_tag tag = {.site = HW_SITE_LOAD};

/* ---- every parameter */

/* One rank's parameters. The format on devices does not matter: they are sent as stored. */
static hw_params params_of(const hw_scatter *s, int rank)
{
    return hw_params_of(s->m, &s->shards[rank], hw_format_plain(HW_F32));
}

static size_t count_params(const hw_scatter *s)
{
    size_t n = 0;
    hw_param p;
    for (hw_params list = params_of(s, 0); hw_params_next(&list, &p);) n++;
    return n;
}

/* Rank 0. */
static hw_status read_types(hw_scatter *s, hw_error *err)
{
    hw_status st = hw_tensor_check_all(s->m, s->c, err);
    unsigned char *type = s->types;
    hw_tensor_place place;
    hw_param p;
    for (hw_params list = params_of(s, 0); !st && hw_params_next(&list, &p);) {
        st = hw_tensor_locate(&place, s->m, s->c, &p, err);
        if (!st) *type++ = (unsigned char)place.tensor.info->dtype;
    }
    return st;
}

static bool add_part(uint64_t *sum, const hw_param *p, hw_dtype stored)
{
    const size_t n_bytes = hw_param_size(p, hw_format_plain(stored));
    return n_bytes != SIZE_MAX && hw_add_u64(*sum, n_bytes, sum);
}

/* Computed from areas, not from pieces, because the bytes sent are compared with it. */
static hw_status plan(hw_scatter *s, hw_error *err)
{
    for (int r = 1; r < s->n_ranks; r++) {
        const unsigned char *type = s->types;
        hw_param p;
        for (hw_params list = params_of(s, r); hw_params_next(&list, &p);)
            if (!add_part(&s->planned[r], &p, (hw_dtype)*type++))
                return hw_fail(err, HW_ERR_MODEL, "weights of more bytes than 64 bits can count");
    }
    return HW_OK;
}

hw_status hw_scatter_bytes(uint64_t *out, const hw_model *m, hw_dtype stored, int n_ranks, hw_error *err)
{
    *out = 0;
    for (int r = 1; r < n_ranks; r++) {
        hw_shard shard;
        hw_param p;
        const hw_status st = hw_shard_create(&shard, m, r, n_ranks, err);
        if (st) return st;
        for (hw_params list = hw_params_of(m, &shard, hw_format_plain(stored)); hw_params_next(&list, &p);)
            if (!add_part(out, &p, stored)) {
                *out = UINT64_MAX;
                return HW_OK;
            }
    }
    return HW_OK;
}

/* ---- creation */

static hw_status no_memory(const hw_scatter *s, hw_error *err)
{
    return hw_fail(err, HW_ERR_NO_MEMORY, "weights: no memory to scatter them over %d ranks", s->n_ranks);
}

static hw_status make(hw_scatter *s, hw_error *err)
{
    const size_t n = (size_t)s->n_ranks;
    hw_status st = HW_OK;
    s->shards = calloc(n, sizeof *s->shards);
    s->planned = calloc(n, sizeof *s->planned);
    s->sent = calloc(n, sizeof *s->sent);
    if (!s->shards || !s->planned || !s->sent) return no_memory(s, err);
    for (int t = HW_F32; t <= HW_I32; t++) s->of_type[t] = (hw_tensor_info){.name = "", .dtype = (hw_dtype)t};
    for (int r = 0; r < s->n_ranks && !st; r++) st = hw_shard_create(&s->shards[r], s->m, r, s->n_ranks, err);
    if (st) return st;
    s->n_params = count_params(s);
    s->types = calloc(s->n_params, 1);
    if (!s->types) return no_memory(s, err);
    return s->c ? read_types(s, err) : HW_OK;
}

hw_status hw_scatter_create(hw_scatter **out, hw_comm *comm, const hw_model *m, hw_checkpoint *c,
                            hw_error *err)
{
    hw_scatter *s = calloc(1, sizeof *s);
    *out = NULL;
    hw_status st = s ? HW_OK : hw_fail(err, HW_ERR_NO_MEMORY, "weights: no memory");
    if (s) {
        *s = (hw_scatter){.comm = comm, .m = m, .c = c, .n_ranks = hw_comm_n_ranks(comm)};
        st = make(s, err);
    }
    st = hw_comm_agree(comm, st, err);
    if (!st) st = hw_comm_broadcast(comm, tag, s->types, s->n_params, 0, err);
    if (!st) st = plan(s, err);
    if (st) hw_scatter_destroy(s);
    else *out = s;
    return st;
}

void hw_scatter_destroy(hw_scatter *s)
{
    if (!s) return;
    free(s->shards);
    free(s->planned);
    free(s->sent);
    free(s->types);
    free(s);
}

/* ---- sending and receiving */

hw_status hw_scatter_locate(hw_scatter *s, hw_tensor_place *out, const hw_param *p, hw_error *err)
{
    const unsigned char type = s->types[s->next++];
    if (s->c) return hw_tensor_locate(out, s->m, s->c, p, err);
    hw_tensor_expect(out, s->m, p);
    out->tensor.info = &s->of_type[type];
    return HW_OK;
}

static hw_status send_part(hw_scatter *s, const hw_tensor_place *place, const hw_param *p, int to,
                           void *buffer, size_t room, hw_error *err)
{
    const hw_tensor_cut cut = hw_tensor_cut_of(place, p);
    size_t at_once, n_rows = hw_range_size(cut.rows);
    hw_status st = hw_tensor_cut_rows(&at_once, &cut, place, room, err);
    for (size_t r = 0; r < n_rows && at_once && !st; r += at_once) {
        const size_t n = n_rows - r < at_once ? n_rows - r : at_once;
        st = hw_tensor_cut_read(&cut, place, s->c, r, n, buffer, err);
        if (!st) st = hw_comm_send(s->comm, tag, buffer, n * cut.row_bytes, to, err);
        if (!st) s->sent[to] += n * cut.row_bytes;
    }
    return st;
}

hw_status hw_scatter_send(hw_scatter *s, const hw_tensor_place *place, const hw_param *p, void *buffer,
                          size_t room, hw_error *err)
{
    hw_status st = HW_OK;
    for (int r = 1; r < s->n_ranks && !st; r++) {
        const hw_param theirs = hw_param_of(s->m, &s->shards[r], p->format, p->role, p->layer);
        st = send_part(s, place, &theirs, r, buffer, room, err);
    }
    return st;
}

hw_status hw_scatter_receive(hw_scatter *s, void *buffer, size_t n_bytes, hw_error *err)
{
    size_t got = 0;
    hw_status st = hw_comm_receive(s->comm, tag, buffer, n_bytes, &got, 0, err);
    if (st || got == n_bytes) return st;
    st = hw_fail(err, HW_ERR_FAILED, "rank 0 stopped sending weights");
    return hw_rank_context(err, st, hw_comm_job_rank(s->comm));
}

hw_status hw_scatter_stop(hw_scatter *s, hw_error *err)
{
    hw_status st = HW_OK;
    for (int r = 1; r < s->n_ranks && !st; r++)
        if (s->sent[r] < s->planned[r]) st = hw_comm_send(s->comm, tag, NULL, 0, r, err);
    return st;
}

static uint64_t sum(const uint64_t *x, int n)
{
    uint64_t total = 0;
    for (int i = 0; i < n; i++) total += x[i];
    return total;
}

uint64_t hw_scatter_planned(const hw_scatter *s) { return s->c ? sum(s->planned, s->n_ranks) : 0; }
uint64_t hw_scatter_sent(const hw_scatter *s) { return sum(s->sent, s->n_ranks); }
