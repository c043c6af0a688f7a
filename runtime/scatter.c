#include "runtime/scatter.h"

#include <stdlib.h>

#include "runtime/base/checked.h"
#include "runtime/base/host.h"
#include "runtime/tensor_cut.h"

struct hw_scatter {
    hw_comm *comm;
    const hw_model *m;
    hw_checkpoint *c; /* NULL on all but rank 0 */
    int n_ranks;
    hw_shard *shards;                   /* [n_ranks] */
    uint64_t *planned, *sent;           /* [n_ranks] bytes for each rank; rank 0's own stay 0 */
    unsigned char *types;               /* [n_tensors] hw_dtype, in the order of rules and layers */
    size_t n_tensors, next;             /* next: whose type hw_scatter_locate gives */
    hw_tensor_info of_type[HW_I32 + 1]; /* what the others know of a tensor */
};

static const hw_tag tag = {.site = HW_SITE_LOAD};

/* ---- every tensor of a model */

typedef hw_status tensor_function(hw_scatter *s, const hw_tensor_rule *rule, int layer, hw_error *err);

static hw_status for_each(hw_scatter *s, tensor_function *f, hw_error *err)
{
    hw_status st = HW_OK;
    for (const hw_tensor_rule *r = s->m->rules; r->name && !st; r++) {
        const int n = hw_tensor_per_layer(r) ? s->m->n_layers : 1;
        for (int layer = 0; layer < n && !st && hw_model_has(s->m, r->role); layer++)
            st = f(s, r, layer, err);
    }
    return st;
}

static hw_status count(hw_scatter *s, const hw_tensor_rule *rule, int layer, hw_error *err)
{
    (void)rule, (void)layer, (void)err;
    s->n_tensors++;
    return HW_OK;
}

static hw_status look_at(hw_scatter *s, const hw_tensor_rule *rule, int layer, hw_error *err)
{
    hw_tensor_place p;
    hw_status st = hw_tensor_locate(&p, s->m, s->c, rule, layer, err);
    if (!st) s->types[s->next++] = (unsigned char)p.tensor.info->dtype;
    return st;
}

static bool add_part(uint64_t *sum, const hw_model *m, const hw_shard *shard, hw_role role, hw_dtype type)
{
    hw_range out, in;
    hw_shard_range(m, shard, role, &out, &in);
    const size_t n_bytes = HW_SIZE(hw_range_size(out), hw_range_size(in), hw_dtype_size(type));
    return n_bytes != SIZE_MAX && hw_add_u64(*sum, n_bytes, sum);
}

/* By area, not by pieces: what is sent is compared with it. */
static hw_status plan(hw_scatter *s, const hw_tensor_rule *rule, int layer, hw_error *err)
{
    (void)layer;
    const hw_dtype type = (hw_dtype)s->types[s->next++];
    for (int r = 1; r < s->n_ranks; r++)
        if (!add_part(&s->planned[r], s->m, &s->shards[r], rule->role, type))
            return hw_fail(err, HW_ERR_MODEL, "weights of more bytes than 64 bits can count");
    return HW_OK;
}

hw_status hw_scatter_bytes(uint64_t *out, const hw_model *m, hw_dtype stored, int n_ranks, hw_error *err)
{
    *out = 0;
    for (int r = 1; r < n_ranks; r++) {
        hw_shard shard;
        hw_status st = hw_shard_create(&shard, m, r, n_ranks, err);
        if (st) return st;
        for (const hw_tensor_rule *rule = m->rules; rule->name; rule++) {
            const int n = hw_tensor_per_layer(rule) ? m->n_layers : 1;
            for (int layer = 0; layer < n && hw_model_has(m, rule->role) && *out != UINT64_MAX; layer++)
                if (!add_part(out, m, &shard, rule->role, stored)) *out = UINT64_MAX;
        }
    }
    return HW_OK;
}

/* ---- making it */

static hw_status make(hw_scatter *s, hw_error *err)
{
    const size_t n = (size_t)s->n_ranks;
    hw_status st = for_each(s, count, err);
    s->shards = calloc(n, sizeof *s->shards);
    s->planned = calloc(n, sizeof *s->planned);
    s->sent = calloc(n, sizeof *s->sent);
    s->types = calloc(s->n_tensors + 1, 1);
    if (!s->shards || !s->planned || !s->sent || !s->types)
        return hw_fail(err, HW_ERR_NO_MEMORY, "weights: no memory to scatter them over %d ranks", s->n_ranks);
    for (int t = HW_F32; t <= HW_I32; t++) s->of_type[t] = (hw_tensor_info){.name = "", .dtype = (hw_dtype)t};
    for (int r = 0; r < s->n_ranks && !st; r++) st = hw_shard_create(&s->shards[r], s->m, r, s->n_ranks, err);
    if (!st && s->c) st = for_each(s, look_at, err);
    if (!st && s->c) st = hw_tensor_check_extra(s->m, s->c, err);
    return st;
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
    if (!st) st = hw_comm_broadcast(comm, tag, s->types, s->n_tensors, 0, err);
    if (!st) {
        s->next = 0;
        st = for_each(s, plan, err);
        s->next = 0;
    }
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

/* ---- moving */

hw_status hw_scatter_locate(hw_scatter *s, hw_tensor_place *out, const hw_tensor_rule *rule, int layer,
                            hw_error *err)
{
    const unsigned char type = s->types[s->next++];
    if (s->c) return hw_tensor_locate(out, s->m, s->c, rule, layer, err);
    hw_tensor_expect(out, s->m, rule);
    out->tensor.info = &s->of_type[type];
    return HW_OK;
}

static hw_status send_part(hw_scatter *s, const hw_tensor_place *p, hw_role role, int to, void *buffer,
                           size_t room, hw_error *err)
{
    const hw_tensor_cut cut = hw_tensor_cut_of(p, s->m, &s->shards[to], role);
    size_t at_once, n_rows = hw_range_size(cut.rows);
    hw_status st = hw_tensor_cut_rows(&at_once, &cut, p, room, err);
    for (size_t r = 0; r < n_rows && at_once && !st; r += at_once) {
        const size_t n = n_rows - r < at_once ? n_rows - r : at_once;
        st = hw_tensor_cut_read(&cut, p, s->c, r, n, buffer, err);
        if (!st) st = hw_comm_send(s->comm, tag, buffer, n * cut.row_bytes, to, err);
        if (!st) s->sent[to] += n * cut.row_bytes;
    }
    return st;
}

hw_status hw_scatter_send(hw_scatter *s, const hw_tensor_place *p, hw_role role, void *buffer, size_t room,
                          hw_error *err)
{
    hw_status st = HW_OK;
    for (int r = 1; r < s->n_ranks && !st; r++) st = send_part(s, p, role, r, buffer, room, err);
    return st;
}

hw_status hw_scatter_receive(hw_scatter *s, void *buffer, size_t n_bytes, hw_error *err)
{
    size_t got = 0;
    hw_status st = hw_comm_receive(s->comm, tag, buffer, n_bytes, &got, 0, err);
    if (st || got == n_bytes) return st;
    st = hw_fail(err, HW_ERR_FAILED, "rank 0 stopped sending weights");
    return hw_rank_context(err, st, hw_comm_rank(s->comm));
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
