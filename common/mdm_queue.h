/*
 * mdm_queue.h - the command queue: what a device's report changes, which
 * command it is given next, and how commands get in.
 *
 * One queue a channel, in the order of priority and then of enqueueing.  A
 * command is offered again until its final report comes; NotNow keeps it, and
 * the answer to that NotNow passes over all commands that were put off, so
 * that two of them never alternate without end.  A status that we do not know
 * counts as NotNow.  Reports are idempotent and bound to the enrolment that
 * sends them.  While commands stay, a push becomes due later by itself
 * (mdm_store_push_repeat()).  Any thread; blocks on the store.
 */
#ifndef MDM_QUEUE_H
#define MDM_QUEUE_H

#include "mdm_catalog.h"
#include "mdm_command.h"
#include "mdm_enroll.h"
#include "mdm_store.h"

typedef struct mdm_queue_result {
    int64_t eid;
    bool has_command;
    mdm_str_t body;  /* the next command, as it was enqueued; in the arena */
    bool unknown;    /* the report names a command this channel never had */
    bool repeated;   /* it was answered before */
} mdm_queue_result_t;

/* Takes a report and hands out the next command.  An Idle with an empty
 * queue costs one read and no write.
 * MDM_EDENIED: not this enrolment's certificate, or it is disabled.
 * MDM_EBLOCKED: the device is shut out.  Store
 * errors: nothing was recorded, the device comes back. */
mdm_rc mdm_queue_report(mdm_store_t *store, const mdm_report_t *report,
                        mdm_str_t raw, const mdm_speaker_t *speaker,
                        mdm_arena_t *arena, mdm_queue_result_t *result_r,
                        mdm_err_t *err) MDM_USE_RESULT;

/* What became of one target of an enqueue or push call. */
typedef enum mdm_target_fault {
    MDM_TARGET_OK = 0,
    MDM_TARGET_UNKNOWN,  /* no such enrolment */
    MDM_TARGET_DISABLED, /* it has checked out */
    MDM_TARGET_NO_TOKEN, /* no TokenUpdate yet, or the token is dead */
    MDM_TARGET_REFUSED,  /* the command cannot go there, see `verdict` */
    MDM_TARGET_NO_UNLOCK_TOKEN, /* it has escrowed none */
    MDM_TARGET_FAILED    /* the store failed */
} mdm_target_fault_t;

typedef struct mdm_target_result {
    mdm_str_t id; /* given by the caller */
    mdm_target_fault_t command;
    mdm_target_fault_t push;
    bool pushed;
    int64_t eid; /* 0: unknown */
    mdm_push_ticket_t ticket; /* of the push, when it is marked */
    mdm_catalog_verdict_t *verdict; /* NULL: was not looked at */
} mdm_target_result_t;

/* For people and API clients; "" for MDM_TARGET_OK. */
const char *mdm_target_fault_text(mdm_target_fault_t fault);

typedef struct mdm_enqueue {
    mdm_str_t uuid;
    mdm_str_t request_type;
    mdm_str_t body; /* kept byte for byte */
    bool push;
    int priority;
    int64_t not_before_us;
    int64_t expires_us;
    /* A command made by the catalogue is checked against each target; NULL:
     * goes anywhere. */
    const mdm_catalog_built_t *built;
    mdm_arena_t *arena; /* of the verdicts */
} mdm_enqueue_t;

/* Queues one command for every target, in transactions of a thousand; the
 * outbox row of a push stands in the same transaction as its command.  Each
 * target gets its own verdict; *queued_r counts those queued.
 * MDM_ECONFLICT: the CommandUUID was used before, nothing is queued.
 * Store errors: what was committed before stays queued and is marked so. */
mdm_rc mdm_queue_enqueue(mdm_store_t *store, const mdm_enqueue_t *enqueue,
                         mdm_target_result_t *targets, size_t n,
                         size_t *queued_r, mdm_err_t *err) MDM_USE_RESULT;

/* Makes a push due for every target; the same rules. */
mdm_rc mdm_queue_push(mdm_store_t *store, mdm_target_result_t *targets,
                      size_t n, size_t *pushed_r, mdm_err_t *err)
    MDM_USE_RESULT;

#endif
