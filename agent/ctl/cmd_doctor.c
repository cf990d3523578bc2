/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * shuntctl doctor: what this host can do, tried out, with the consequence of each no.
 * Reads from: the doctor; the agent, if one runs, for the rung that it is on.
 * Writes to: stdout.
 */
#include "client.h"
#include "cmd.h"
#include "doctor.h"
#include "log.h"
#include "shunt/proto.h"
#include "shunt/version.h"

static json_t *text_or_null(const char *text)
{
	return text ? json_string(text) : json_null();
}

static json_t *describe_check(const struct doctor_check *check)
{
	json_t *rungs = json_array();

	for (int rung = 0; rungs && rung < DOCTOR_RUNGS; rung++)
		if (check->rungs & 1u << rung)
			json_array_append_new(rungs, json_string(doctor_rung_name(rung)));
	return json_pack("{s:s, s:s, s:s, s:o, s:o, s:o}", "name", check->name, "how", check->how,
			 "result", doctor_result_name(check->result), "found",
			 text_or_null(check->found), "consequence",
			 check->result == DOCTOR_YES ? json_null()
						     : json_string(check->consequence),
			 "needed_for", rungs);
}

/* Steals @agent. */
static json_t *describe(const struct doctor *doctor, json_t *agent)
{
	json_t *checks = json_array();

	for (size_t i = 0; checks && i < doctor->n; i++)
		json_array_append_new(checks, describe_check(&doctor->checks[i]));
	return json_pack("{s:s, s:s, s:o, s:o}", "version", SHUNT_VERSION, "rung",
			 doctor_rung_name(doctor_rung(doctor)), "agent", agent, "checks", checks);
}

static void print_checks(const json_t *checks)
{
	_cleanup_out_table_ struct out_table *table = out_table_new("llll");
	const json_t *check;
	size_t i;

	out_table_row(table, "FEATURE", "RESULT", "TRIED HOW", "FOUND");
	json_array_foreach (checks, i, check)
		out_table_members(table, check, "name", "result", "how", "found");
	out_table_print(table, stdout);
}

static void print_consequences(const json_t *checks)
{
	const json_t *check;
	size_t i;

	json_array_foreach (checks, i, check) {
		if (json_is_null(json_object_get(check, "consequence")))
			continue;
		printf("%s (%s): %s\n", out_string(check, "name"), out_string(check, "result"),
		       out_string(check, "consequence"));
	}
}

static void print_examination(const json_t *examination)
{
	const json_t *agent = json_object_get(examination, "agent");

	print_checks(json_object_get(examination, "checks"));
	putchar('\n');
	print_consequences(json_object_get(examination, "checks"));
	printf("this host, asked with these privileges: %s\n", out_string(examination, "rung"));
	if (json_is_object(agent))
		printf("the agent that runs: %s\n", out_string(agent, "rung"));
	else
		puts("no agent answers");
}

int cmd_doctor(const struct ctl *ctl, int argc, char **argv)
{
	_cleanup_json_ json_t *examination = NULL, *status = NULL;
	struct doctor doctor;
	const char *pin_dir;

	(void)argc, (void)argv;
	log_adopt_libbpf();
	if (client_reaches(ctl->socket))
		client_ask(ctl->socket, json_pack("{s:s}", "verb", "status"), &status);
	pin_dir = json_string_value(json_object_get(status, "pin_dir"));
	if (doctor_run(pin_dir ? pin_dir : SHUNT_DEFAULT_PIN_DIR, &doctor)) {
		out_error("no memory");
		return EXIT_FAILURE;
	}
	examination = describe(&doctor, status ? json_incref(status) : json_null());
	doctor_deinit(&doctor);
	if (!examination)
		return EXIT_FAILURE;
	if (ctl->json)
		out_json(stdout, examination);
	else
		print_examination(examination);
	return EXIT_SUCCESS;
}
