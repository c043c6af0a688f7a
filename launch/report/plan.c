#include "launch/report/plan.h"

#include <math.h>
#include <string.h>

#include "launch/report/output.h"

enum { CELL = 40 };

char *hw_format_memory(char text[16], double n_bytes)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
    size_t i = 0;
    while (n_bytes >= 1023.5 && i + 1 < sizeof units / sizeof *units) n_bytes /= 1024, i++;
    snprintf(text, 16, i && n_bytes < 99.95 ? "%.1f %s" : "%.0f %s", n_bytes, units[i]);
    return text;
}

/* "a-b", or "a" if all ranks have the same. */
static char *format_range(char cell[CELL], const char *a, const char *b)
{
    if (!strcmp(a, b)) snprintf(cell, CELL, "%s", a);
    else snprintf(cell, CELL, "%s-%s", a, b);
    return cell;
}

static char *format_counts(char cell[CELL], int least, int most)
{
    char a[16], b[16];
    snprintf(a, sizeof a, "%d", least);
    snprintf(b, sizeof b, "%d", most);
    return format_range(cell, a, b);
}

static char *format_bytes_range(char cell[CELL], uint64_t least, uint64_t most)
{
    char a[16], b[16];
    hw_format_memory(a, (double)least);
    hw_format_memory(b, (double)most);
    char *unit = strrchr(a, ' ');
    if (strcmp(a, b) && !strcmp(unit, strrchr(b, ' '))) *unit = '\0'; /* the unit once */
    return format_range(cell, a, b);
}

static hw_status print_head(const hw_plan_report *r, hw_error *err)
{
    const hw_model *m = r->model;
    const hw_engine_options *o = r->options;
    char text[2][16];
    uint64_t token = 2 * (uint64_t)m->n_layers * (uint64_t)m->n_kv_heads * (uint64_t)m->head_dim *
                     hw_dtype_size(o->kv_dtype);
    hw_status st = hw_print(
        err,
        "%s, %s parameters as %s: %d layers, width %d, %d heads, %d KV heads of %d, MLP %d, vocabulary %d\n"
        "KV cache: %d sequence%s of %d tokens as %s, %llu B per token (%s in all)\n"
        "Device: %s\n",
        m->architecture, hw_format_count(text[0], (double)hw_model_n_params(m)),
        hw_dtype_name(o->weight_dtype), m->n_layers, m->dim, m->n_heads, m->n_kv_heads, m->head_dim,
        m->ffn_dim, m->vocab_size, o->max_seqs, o->max_seqs > 1 ? "s" : "", o->max_seq_len,
        hw_dtype_name(o->kv_dtype), (unsigned long long)token,
        hw_format_memory(text[1], (double)token * o->max_seqs * o->max_seq_len),
        hw_device_description(r->device));
    return st;
}

static hw_status print_memory(const hw_plan_report *r, hw_error *err)
{
    hw_status st = hw_print(err,
                            "\nMemory of a rank (least-most where ranks differ; copies: KV heads that ranks "
                            "keep beyond the model's; "
                            "uneven: weights of the\nlargest rank over the mean; fits: positions of cache "
                            "that fit on every rank)\n"
                            "%5s %7s %8s %6s %17s %17s %17s %17s %6s %9s %11s\n",
                            "ranks", "heads", "KV heads", "copies", "weights", "KV cache", "buffers",
                            "together", "uneven", "of", "fits");
    for (int i = 0; i < r->n && !st; i++) {
        const hw_plan *p = &r->plans[i];
        char cells[6][CELL], memory[16], tokens[32];
        snprintf(tokens, sizeof tokens, "%llu%s", (unsigned long long)p->cache_tokens, p->fits ? "" : " NO");
        st = hw_print(err, "%5d %7s %8s %6d %17s %17s %17s %17s %6.2f %9s %11s\n", p->n_ranks,
                      format_counts(cells[0], p->min_heads, p->max_heads),
                      format_counts(cells[1], p->min_kv_heads, p->max_kv_heads), p->replicated_kv_heads,
                      format_bytes_range(cells[2], p->least.weights, p->most.weights),
                      format_bytes_range(cells[3], p->least.kv, p->most.kv),
                      format_bytes_range(cells[4], p->least.buffers, p->most.buffers),
                      format_bytes_range(cells[5], p->least.total, p->most.total), p->imbalance,
                      hw_format_memory(memory, (double)p->memory), tokens);
    }
    if (!st && r->plans[0].most.reserve)
        st = hw_print(err, "together: with %s set aside for graphs and collectives\n",
                      hw_format_memory((char[16]){0}, (double)r->plans[0].most.reserve));
    return st;
}

static hw_traffic total(const hw_step_traffic *t)
{
    hw_traffic sum = {0};
    for (int site = 0; site < HW_N_SITES; site++)
        hw_traffic_add(&sum, hw_step_traffic_site(t, (hw_site)site));
    return sum;
}

/* "self", "mpi", "shm, all ranks on one host", "shm, 4 ranks per host" */
static const char *name_backend(char text[64], const hw_plan *p)
{
    if (p->n_ranks == 1) snprintf(text, 64, "self");
    else if (p->n_sharing == 1) snprintf(text, 64, "mpi");
    else if (p->n_sharing == p->n_ranks) snprintf(text, 64, "shm, all ranks on one host");
    else snprintf(text, 64, "shm, %d ranks per host", p->n_sharing);
    return text;
}

static hw_status print_traffic(const hw_plan_report *r, bool decode, hw_error *err)
{
    hw_status st;
    if (decode)
        st = hw_print(err, "\nTraffic of a decode step of %d row%s", r->options->max_seqs,
                      r->options->max_seqs > 1 ? "s" : "");
    else st = hw_print(err, "\nTraffic of a prefill step of %d rows", r->plans[0].prefill_rows);
    char backend[64];
    if (!st)
        st = hw_print(err,
                      " (payload by site; sent and messages of the rank that sends most, backend %s)\n"
                      "%5s %10s %10s %10s %10s %10s %10s %10s %9s %12s\n",
                      name_backend(backend, &r->plans[r->n - 1]), "ranks", "embed", "attn", "mlp", "sample",
                      "payload", "ideal", "sent", "messages", "by all ranks");
    for (int i = 0; i < r->n && !st; i++) {
        const hw_step_traffic *t = decode ? &r->plans[i].decode : &r->plans[i].prefill;
        const hw_traffic sum = total(t);
        char text[HW_N_SITES][16], all[4][16];
        for (int site = 0; site < HW_N_SITES; site++)
            hw_format_bytes(text[site], (double)hw_step_traffic_site(t, (hw_site)site).payload_bytes);
        st = hw_print(err, "%5d %10s %10s %10s %10s %10s %10s %10s %9llu %12s\n", r->plans[i].n_ranks,
                      text[HW_SITE_EMBED], text[HW_SITE_ATTN], text[HW_SITE_MLP], text[HW_SITE_SAMPLE],
                      hw_format_bytes(all[0], (double)sum.payload_bytes),
                      hw_format_bytes(all[1], sum.ideal_bytes),
                      hw_format_bytes(all[2], (double)sum.sent_bytes), (unsigned long long)sum.messages,
                      hw_format_bytes(all[3], (double)(decode ? r->plans[i].decode_sent_by_all
                                                              : r->plans[i].prefill_sent_by_all)));
    }
    return st;
}

static hw_status print_break_even(const hw_plan_report *r, hw_error *err)
{
    char text[2][16];
    hw_status st = hw_print(
        err,
        "\nDecoding one row: splitting a layer over n ranks can pay where its matrices W (1 - 1/n) take "
        "longer to "
        "read than two\nall-reduces take: at %s/s (--bandwidth) and %.3g us (--latency); a layer has %s\n"
        "%5s %14s\n",
        hw_format_bytes(text[0], r->limits.bandwidth), 1e6 * r->limits.latency,
        hw_format_bytes(text[1], (double)r->plans[0].layer_bytes), "ranks", "break-even");
    for (int i = 0; i < r->n && !st; i++) {
        const hw_plan *p = &r->plans[i];
        if (p->n_ranks == 1) st = hw_print(err, "%5d %14s   nothing to split\n", 1, "-");
        else
            st = hw_print(err, "%5d %14s   %s\n", p->n_ranks, hw_format_bytes(text[0], p->break_even_bytes),
                          p->can_pay ? "can pay" : "cannot pay: slower than one rank in any case");
    }
    return st;
}

static hw_status print_load(const hw_plan_report *r, hw_error *err)
{
    char text[16];
    if (r->options->weights != HW_WEIGHTS_SCATTER) return HW_OK;
    hw_status st =
        hw_print(err, "\nLoading with weights from rank 0: what it sends\n%5s %12s\n", "ranks", "bytes");
    for (int i = 0; i < r->n && !st; i++)
        st = hw_print(err, "%5d %12s\n", r->plans[i].n_ranks,
                      hw_format_bytes(text, (double)r->plans[i].scatter_bytes));
    return st;
}

hw_status hw_plan_print(const hw_plan_report *r, hw_error *err)
{
    hw_status st;
    if ((st = print_head(r, err)) || (st = print_memory(r, err)) || (st = print_traffic(r, false, err)) ||
        (st = print_traffic(r, true, err)) || (st = print_load(r, err)))
        return st;
    return print_break_even(r, err);
}

/* ---- JSON */

static json_t *memory_json(hw_rank_memory m)
{
    return json_pack("{s:I, s:I, s:I, s:I, s:I}", "weight_bytes", (json_int_t)m.weights, "kv_bytes",
                     (json_int_t)m.kv, "buffer_bytes", (json_int_t)m.buffers, "reserve_bytes",
                     (json_int_t)m.reserve, "total_bytes", (json_int_t)m.total);
}

static json_t *traffic_json(int n_rows, const hw_step_traffic *t, uint64_t sent_by_all)
{
    json_t *sites = json_object();
    for (int site = 0; site < HW_N_SITES; site++) {
        if (!hw_site_is_predicted((hw_site)site)) continue;
        const hw_traffic s = hw_step_traffic_site(t, (hw_site)site);
        json_object_set_new(sites, hw_site_name((hw_site)site),
                            json_pack("{s:I, s:I, s:I, s:I, s:f}", "calls", (json_int_t)s.calls, "messages",
                                      (json_int_t)s.messages, "payload_bytes", (json_int_t)s.payload_bytes,
                                      "sent_bytes", (json_int_t)s.sent_bytes, "ideal_bytes", s.ideal_bytes));
    }
    return json_pack("{s:i, s:o, s:I}", "rows", n_rows, "busiest_rank", sites, "sent_bytes_all_ranks",
                     (json_int_t)sent_by_all);
}

static json_t *ranks_json(const hw_plan_report *r, const hw_plan *plan)
{
    json_t *ranks = json_array();
    for (int rank = 0; rank < plan->n_ranks; rank++) {
        hw_shard shard;
        if (hw_shard_create(&shard, r->model, rank, plan->n_ranks, NULL))
            break; /* cannot fail: the plan for this number of ranks succeeded */
        json_array_append_new(
            ranks,
            json_pack("{s:i, s:i, s:i, s:i, s:i, s:I, s:I, s:o}", "first_head", shard.heads.first_head,
                      "heads", shard.heads.n_heads, "first_kv_head", shard.heads.first_kv_head, "kv_heads",
                      shard.heads.n_kv_heads, "rank", rank, "mlp_columns",
                      (json_int_t)hw_range_size(shard.ffn), "vocabulary",
                      (json_int_t)hw_range_size(shard.vocab), "memory",
                      memory_json(hw_plan_rank_memory(plan, r->options, r->model, &shard, r->device))));
    }
    return ranks;
}

static json_t *plan_json(const hw_plan_report *r, const hw_plan *p)
{
    json_t *j =
        json_pack("{s:i, s:[i,i], s:[i,i], s:i, s:f, s:o, s:o, s:I, s:b, s:o, s:o, s:b, s:o}", "ranks",
                  p->n_ranks, "heads", p->min_heads, p->max_heads, "kv_heads", p->min_kv_heads,
                  p->max_kv_heads, "replicated_kv_heads", p->replicated_kv_heads, "imbalance", p->imbalance,
                  "least", memory_json(p->least), "most", memory_json(p->most), "cache_tokens_that_fit",
                  (json_int_t)p->cache_tokens, "fits", p->fits, "prefill_step",
                  traffic_json(p->prefill_rows, &p->prefill, p->prefill_sent_by_all), "decode_step",
                  traffic_json(r->options->max_seqs, &p->decode, p->decode_sent_by_all), "can_pay",
                  p->can_pay, "per_rank", ranks_json(r, p));
    json_object_set_new(j, "ranks_sharing_memory", json_integer(p->n_sharing));
    if (r->options->weights == HW_WEIGHTS_SCATTER)
        json_object_set_new(j, "load_sent_bytes", json_integer((json_int_t)p->scatter_bytes));
    json_object_set_new(j, "break_even_layer_bytes",
                        isfinite(p->break_even_bytes) ? json_real(p->break_even_bytes) : json_null());
    return j;
}

json_t *hw_plan_json(const hw_plan_report *r)
{
    const hw_model *m = r->model;
    const hw_engine_options *o = r->options;
    json_t *plans = json_array();
    for (int i = 0; i < r->n; i++) json_array_append_new(plans, plan_json(r, &r->plans[i]));
    return json_pack("{s:s, s:s, s:I, s:s, s:s, s:i, s:i, s:i, s:I, s:I, s:f, s:f, s:o}", "device",
                     hw_device_description(r->device), "architecture", m->architecture, "parameters",
                     (json_int_t)hw_model_n_params(m), "dtype", hw_dtype_name(o->weight_dtype), "kv_dtype",
                     hw_dtype_name(o->kv_dtype), "max_seqs", o->max_seqs, "max_model_len", o->max_seq_len,
                     "block_tokens", o->block_tokens, "memory_bytes", (json_int_t)r->limits.memory,
                     "layer_bytes", (json_int_t)hw_plan_layer_bytes(m, hw_format_plain(o->weight_dtype)),
                     "bandwidth_bytes_per_second", r->limits.bandwidth, "latency_seconds", r->limits.latency,
                     "plans", plans);
}
