#include "parallel/comm.h"

#include <stdlib.h>
#include <string.h>

#include "parallel/comm_ops.h"

struct hw_comm {
    const hw_comm_ops *ops;
    void *state;
    int rank, n_ranks, n_local_ranks;
    hw_meter *meter;
};

static const hw_comm_ops *const backends[] = {&hw_comm_self_ops, &hw_comm_mpi_ops};

static int env_int(const char *name)
{
    const char *text = getenv(name);
    return text ? atoi(text) : 0;
}

int hw_comm_launched_ranks(void)
{
    static const char *const names[] = {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (env_int(names[i]) > 0) return env_int(names[i]);
    /* srun --mpi=pmix names the rank through PMIx and the number of tasks of the step in a variable of its own. */
    if (getenv("PMIX_RANK") && env_int("SLURM_STEP_NUM_TASKS") > 0) return env_int("SLURM_STEP_NUM_TASKS");
    return 1;
}

int hw_comm_launched_rank(void)
{
    static const char *const names[] = {"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (getenv(names[i])) return env_int(names[i]);
    return 0;
}

static const hw_comm_ops *find_backend(const char *name)
{
    if (!strcmp(name, "auto")) return hw_comm_launched_ranks() > 1 ? &hw_comm_mpi_ops : &hw_comm_self_ops;
    for (size_t i = 0; i < sizeof backends / sizeof *backends; i++)
        if (!strcmp(name, backends[i]->name)) return backends[i];
    return NULL;
}

hw_status hw_comm_create(hw_comm **out, const char *backend, hw_error *err)
{
    *out = NULL;
    const hw_comm_ops *ops = find_backend(backend);
    if (!ops)
        return hw_fail(err, HW_ERR_INVALID,
                       "collectives \"%s\" are not known to this build; it has auto, self and mpi", backend);
    hw_comm *c = calloc(1, sizeof *c);
    if (!c) return hw_fail(err, HW_ERR_NO_MEMORY, "communicator: no memory");
    hw_status st = hw_meter_create(&c->meter, err);
    if (!st && !(st = ops->create(&c->state, &c->rank, &c->n_ranks, &c->n_local_ranks, err))) c->ops = ops;
    if (st) {
        hw_comm_destroy(c);
        return st;
    }
    *out = c;
    return HW_OK;
}

void hw_comm_destroy(hw_comm *c)
{
    if (!c) return;
    if (c->ops) c->ops->destroy(c->state);
    hw_meter_destroy(c->meter);
    free(c);
}

int hw_comm_rank(const hw_comm *c) { return c->rank; }
int hw_comm_n_ranks(const hw_comm *c) { return c->n_ranks; }
int hw_comm_n_local_ranks(const hw_comm *c) { return c->n_local_ranks; }
const char *hw_comm_backend(const hw_comm *c) { return c->ops->name; }
hw_meter *hw_comm_meter(hw_comm *c) { return c->meter; }

hw_status hw_comm_all_reduce(hw_comm *c, hw_tag tag, void *buffer, size_t count, hw_dtype type, hw_reduce op,
                             hw_error *err)
{
    uint64_t sent = 0;
    hw_status st = HW_OK;
    if (c->n_ranks > 1 && count) st = c->ops->all_reduce(c->state, buffer, count, type, op, &sent, err);
    if (!st && c->n_ranks > 1) hw_meter_record(c->meter, tag, count * hw_dtype_size(type), sent);
    return st;
}

hw_status hw_comm_all_gather(hw_comm *c, hw_tag tag, const void *send, size_t n_bytes, void *recv,
                             hw_error *err)
{
    uint64_t sent = 0;
    hw_status st = HW_OK;
    if (c->n_ranks == 1) memcpy(recv, send, n_bytes);
    else if (n_bytes) st = c->ops->all_gather(c->state, send, n_bytes, recv, &sent, err);
    if (!st && c->n_ranks > 1) hw_meter_record(c->meter, tag, n_bytes * (size_t)c->n_ranks, sent);
    return st;
}

hw_status hw_comm_broadcast(hw_comm *c, hw_tag tag, void *buffer, size_t n_bytes, int root, hw_error *err)
{
    uint64_t sent = 0;
    hw_status st = HW_OK;
    if (c->n_ranks > 1 && n_bytes) st = c->ops->broadcast(c->state, buffer, n_bytes, root, &sent, err);
    if (!st && c->n_ranks > 1) hw_meter_record(c->meter, tag, n_bytes, sent);
    return st;
}

hw_status hw_comm_agree(hw_comm *c, hw_status mine, hw_error *err)
{
    if (c->n_ranks == 1) return mine;
    hw_tag tag = {.site = HW_SITE_CONTROL};
    /* The larger status wins; among equals the lowest rank. */
    uint64_t worst = (uint64_t)mine << 32 | (uint32_t)(c->n_ranks - 1 - c->rank);
    hw_status st = hw_comm_all_reduce(c, tag, &worst, 1, HW_U64, HW_MAX, err);
    if (st) return st;
    hw_status agreed = (hw_status)(worst >> 32);
    if (agreed == HW_OK) return HW_OK;
    int who = c->n_ranks - 1 - (int)(uint32_t)worst;
    hw_error said = {{0}};
    if (who == c->rank && err) said = *err;
    st = hw_comm_broadcast(c, tag, &said, sizeof said, who, err);
    if (st) return st;
    if (err) *err = said;
    return agreed;
}

void hw_comm_abort(hw_comm *c, int exit_code) { c->ops->abort(c->state, exit_code); }
