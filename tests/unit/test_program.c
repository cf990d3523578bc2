/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * How a program is classified by its executable.
 * Reads from: this process, and processes of executables that are made here.
 * Writes to: a temporary directory; the processes are stopped before their first instruction.
 */
#include <errno.h>
#include <ftw.h>
#include <link.h>
#include <linux/capability.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "program.h"
#include "util/cleanup.h"

#define LOAD_ADDRESS 0x400000
#define NOBODY	     65534
#define HUGE	     (1 << 30) /* bytes */

/* An executable to be made: headers that the kernel takes, and sections that it does not look at.
 */
struct shape {
	bool interpreter;
	const char *section;	/* one more, of any content; NULL: none */
	ElfW(Word) table;	/* type of the symbol table; 0: there is none */
	const char *symbols[4]; /* a '+' in front: it is defined here */
	bool no_sections;
	bool sections_missing; /* said to be behind the end of the file */
	bool symbols_huge;  /* said to be as large as the file, which is HUGE, and takes no room */
	bool sections_huge; /* said to be so many */
	bool symbols_twice; /* one more table, the same */
	bool names_open;    /* the last of the sections' names has no end */
};

static char directory[] = "/tmp/test_program.XXXXXX";

static int find_interpreter(struct dl_phdr_info *info, size_t size, void *arg)
{
	for (int i = 0; i < info->dlpi_phnum; i++)
		if (info->dlpi_phdr[i].p_type == PT_INTERP)
			*(const char **)arg =
				(const char *)info->dlpi_addr + info->dlpi_phdr[i].p_vaddr;
	return 1; /* the first is this program; that is enough */
}

/* The interpreter of this program, for this machine. */
static const char *own_interpreter(void)
{
	const char *path = NULL;

	dl_iterate_phdr(find_interpreter, &path);
	assert_non_null(path);
	return path;
}

/* What the machine wants of a header. */
static ElfW(Ehdr) own_header(void)
{
	_cleanup_fclose_ FILE *file = fopen("/proc/self/exe", "re");
	ElfW(Ehdr) header;

	assert_non_null(file);
	assert_int_equal(fread(&header, sizeof(header), 1, file), 1);
	return header;
}

enum { NAMES = 1, STRINGS, SYMBOLS, EXTRA, SECTIONS };

static void put(FILE *file, ElfW(Shdr) * section, ElfW(Word) type, const void *data, size_t n)
{
	section->sh_type = type;
	section->sh_offset = ftell(file);
	section->sh_size = n;
	assert_int_equal(fwrite(data, 1, n, file), n);
}

static void put_names(FILE *file, ElfW(Shdr) * sections, const char *extra)
{
	char names[128] = "";
	size_t n = 1;

	sections[NAMES].sh_name = n;
	n += sprintf(names + n, ".shstrtab") + 1;
	sections[STRINGS].sh_name = n;
	n += sprintf(names + n, ".strings") + 1;
	sections[SYMBOLS].sh_name = n;
	n += sprintf(names + n, ".symbols") + 1;
	sections[EXTRA].sh_name = n;
	n += sprintf(names + n, "%s", extra ?: ".extra") + 1;
	put(file, &sections[NAMES], SHT_STRTAB, names, n);
}

static void put_symbols(FILE *file, ElfW(Shdr) * sections, const struct shape *shape)
{
	ElfW(Sym) symbols[1 + 4] = {};
	size_t n_symbols = 1, n = 1;
	char strings[128] = "";

	for (size_t i = 0; i < 4 && shape->symbols[i]; i++, n_symbols++) {
		bool defined = *shape->symbols[i] == '+';

		symbols[n_symbols].st_name = n;
		symbols[n_symbols].st_shndx = defined ? EXTRA : SHN_UNDEF;
		symbols[n_symbols].st_info = STB_GLOBAL << 4 | STT_FUNC;
		n += sprintf(strings + n, "%s", shape->symbols[i] + defined) + 1;
	}
	put(file, &sections[STRINGS], SHT_STRTAB, strings, n);
	put(file, &sections[SYMBOLS], shape->table, symbols, n_symbols * sizeof(*symbols));
	sections[SYMBOLS].sh_link = STRINGS;
	sections[SYMBOLS].sh_entsize = sizeof(*symbols);
}

static char *make_executable(const char *name, const struct shape *shape)
{
	const char *interpreter = own_interpreter();
	ElfW(Shdr) sections[SECTIONS] = {};
	ElfW(Ehdr) header = own_header();
	ElfW(Phdr) segments[2] = {};
	_cleanup_fclose_ FILE *file = NULL;
	char *path;

	assert_true(asprintf(&path, "%s/%s", directory, name) > 0);
	file = fopen(path, "we");
	assert_non_null(file);

	segments[0].p_type = shape->interpreter ? PT_INTERP : PT_NULL;
	segments[0].p_offset = sizeof(header) + sizeof(segments);
	segments[0].p_filesz = segments[0].p_memsz = strlen(interpreter) + 1;
	segments[1].p_type = PT_LOAD;
	segments[1].p_flags = PF_R | PF_X;
	segments[1].p_vaddr = LOAD_ADDRESS;
	segments[1].p_filesz = segments[1].p_memsz = sizeof(header) + sizeof(segments);
	segments[1].p_align = sysconf(_SC_PAGESIZE);

	fseek(file, segments[0].p_offset, SEEK_SET);
	fwrite(interpreter, strlen(interpreter) + 1, 1, file);
	put_names(file, sections, shape->section);
	if (shape->table)
		put_symbols(file, sections, shape);
	put(file, &sections[EXTRA], SHT_PROGBITS, "x", 1);
	fseek(file, -ftell(file) & 7, SEEK_CUR);

	if (shape->symbols_huge)
		sections[SYMBOLS].sh_size = HUGE / sizeof(ElfW(Sym)) * sizeof(ElfW(Sym));
	if (shape->symbols_twice)
		sections[EXTRA].sh_type = shape->table;
	if (shape->names_open)
		sections[NAMES].sh_size--;
	if (shape->sections_huge)
		sections[0].sh_size = HUGE / sizeof(ElfW(Shdr)) / 2;

	header.e_type = ET_EXEC;
	header.e_entry = LOAD_ADDRESS;
	header.e_phoff = sizeof(header);
	header.e_phnum = 2;
	header.e_shoff = shape->no_sections ? 0 : ftell(file);
	header.e_shnum = shape->no_sections ? 0 : SECTIONS;
	header.e_shstrndx = shape->no_sections ? SHN_UNDEF : NAMES;
	if (shape->sections_huge)
		header.e_shnum = 0;
	if (shape->sections_missing)
		header.e_shoff += 1 << 20;
	fwrite(sections, sizeof(sections), 1, file);
	rewind(file);
	fwrite(&header, sizeof(header), 1, file);
	fwrite(segments, sizeof(segments), 1, file);
	assert_int_equal(fflush(file), 0);
	if (shape->symbols_huge || shape->sections_huge)
		assert_int_equal(ftruncate(fileno(file), HUGE + (64 << 20)), 0);
	assert_int_equal(fchmod(fileno(file), 0755), 0);
	return path;
}

/* A process that has executed @path, and not an instruction of it. */
static pid_t start(const char *path)
{
	pid_t pid = fork();
	int status;

	assert_true(pid >= 0);
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		ptrace(PTRACE_TRACEME, 0, NULL, NULL);
		execl(path, path, NULL);
		_exit(errno);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (!WIFSTOPPED(status))
		fail_msg("%s cannot be executed: %s", path, strerror(WEXITSTATUS(status)));
	return pid;
}

static void stop(pid_t pid)
{
	int status;

	kill(pid, SIGKILL);
	while (waitpid(pid, &status, 0) == pid && !WIFSIGNALED(status))
		;
}

static struct config *parse(const char *splice_never)
{
	struct config_problems problems = {};
	struct config *config = NULL;
	char text[512];
	FILE *stream;

	snprintf(text, sizeof(text),
		 "[agent]\nsplice_never = %s\n[mesh a]\ncgroups = /a\nsidecar_uids = 1\n"
		 "tcp_redirect = 127.0.0.1:1\n",
		 splice_never);
	stream = fmemopen(text, strlen(text), "r");
	assert_non_null(stream);
	assert_int_equal(config_parse(stream, "t.ini", &problems, &config), 0);
	assert_int_equal(problems.n, 0);
	fclose(stream);
	return config;
}

static enum shunt_program classify(pid_t pid, const char *splice_never, const char *path)
{
	struct config *config = parse(splice_never);
	_cleanup_free_ char *found = NULL;
	enum shunt_program program = 0;

	assert_int_equal(program_classify(pid, config, &program, &found), 0);
	assert_string_equal(found, path);
	config_free(config);
	return program;
}

static void test_a_real_program(void **state)
{
	_cleanup_free_ char *path = realpath("/proc/self/exe", NULL);

	assert_int_equal(classify(getpid(), "", path), SHUNT_PROGRAM_FINE);
	assert_int_equal(classify(getpid(), "/x, /**/test_program", path), SHUNT_PROGRAM_NEVER);
	assert_int_equal(classify(getpid(), path, path), SHUNT_PROGRAM_NEVER);
	assert_int_equal(classify(getpid(), "/test_program", path), SHUNT_PROGRAM_FINE);
}

static void test_what_an_executable_shows(void **state)
{
	static const struct {
		const char *what;
		struct shape shape;
		enum shunt_program program;
	} cases[] = {
		{"imports nothing of it",
		 {.interpreter = true, .table = SHT_DYNSYM, .symbols = {"read", "close"}},
		 SHUNT_PROGRAM_FINE},
		{"imports splice",
		 {.interpreter = true, .table = SHT_DYNSYM, .symbols = {"read", "splice"}},
		 SHUNT_PROGRAM_SUSPECT},
		{"imports its relatives",
		 {.interpreter = true,
		  .table = SHT_DYNSYM,
		  .symbols = {"tee", "vmsplice", "splice_", "xsplice"}},
		 SHUNT_PROGRAM_FINE},
		{"has a splice of its own",
		 {.interpreter = true, .table = SHT_DYNSYM, .symbols = {"+splice"}},
		 SHUNT_PROGRAM_FINE},
		{"is linked dynamically, and says nowhere to what",
		 {.interpreter = true, .table = SHT_SYMTAB, .symbols = {"read"}},
		 SHUNT_PROGRAM_SUSPECT},
		{"is static, without it",
		 {.table = SHT_SYMTAB, .symbols = {"+read"}},
		 SHUNT_PROGRAM_FINE},
		{"is static, with it",
		 {.table = SHT_SYMTAB, .symbols = {"+read", "+splice"}},
		 SHUNT_PROGRAM_SUSPECT},
		{"is static and stripped", {}, SHUNT_PROGRAM_SUSPECT},
		{"is Go, static and stripped", {.section = ".go.buildinfo"}, SHUNT_PROGRAM_SPLICES},
		{"is Go, with cgo",
		 {.interpreter = true,
		  .section = ".note.go.buildid",
		  .table = SHT_DYNSYM,
		  .symbols = {"read"}},
		 SHUNT_PROGRAM_SPLICES},
		{"has a section that only looks like Go's",
		 {.interpreter = true,
		  .section = ".go.buildinfos",
		  .table = SHT_DYNSYM,
		  .symbols = {"read"}},
		 SHUNT_PROGRAM_FINE},
		{"is packed", {.no_sections = true}, SHUNT_PROGRAM_SPLICES},
		{"is cut short", {.sections_missing = true}, SHUNT_PROGRAM_SPLICES},
		{"has two tables of what it imports",
		 {.interpreter = true,
		  .table = SHT_DYNSYM,
		  .symbols = {"read"},
		  .symbols_twice = true},
		 SHUNT_PROGRAM_SUSPECT},
		{"has names without an end", {.names_open = true}, SHUNT_PROGRAM_SPLICES},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		_cleanup_free_ char *path = make_executable("program", &cases[i].shape);
		pid_t pid = start(path);
		enum shunt_program program = classify(pid, "", path);

		stop(pid);
		if (program != cases[i].program)
			fail_msg("one that %s: %u", cases[i].what, program);
	}
}

static long memory_used(void)
{
	struct rusage usage;

	assert_int_equal(getrusage(RUSAGE_SELF, &usage), 0);
	return usage.ru_maxrss << 10;
}

/* Who runs it may be anybody in the mesh, and the agent is there for all. */
static void test_what_claims_to_be_huge_is_not_read(void **state)
{
	static const struct shape shapes[] = {
		{.interpreter = true,
		 .table = SHT_DYNSYM,
		 .symbols = {"read"},
		 .symbols_huge = true},
		{.interpreter = true,
		 .table = SHT_DYNSYM,
		 .symbols = {"read"},
		 .sections_huge = true},
	};
	long before = memory_used();

	for (size_t i = 0; i < ARRAY_SIZE(shapes); i++) {
		_cleanup_free_ char *path = make_executable("huge", &shapes[i]);
		pid_t pid = start(path);
		enum shunt_program program = classify(pid, "", path);

		stop(pid);
		assert_int_equal(program, SHUNT_PROGRAM_SUSPECT);
		assert_in_range(memory_used() - before, 0, HUGE / 4);
		unlink(path);
	}
}

/* An update of a package leaves such processes behind. */
static void test_what_was_unlinked_is_itself_still(void **state)
{
	static const struct shape shape = {
		.interpreter = true,
		.table = SHT_DYNSYM,
		.symbols = {"splice"},
	};
	_cleanup_free_ char *path = make_executable("unlinked", &shape);
	pid_t pid = start(path);
	enum shunt_program named, program;

	unlink(path);
	named = classify(pid, "/**/unlinked", path);
	program = classify(pid, "/**/unlinked??deleted?", path);
	stop(pid);
	assert_int_equal(named, SHUNT_PROGRAM_NEVER);
	assert_int_equal(program, SHUNT_PROGRAM_SUSPECT);
}

static void test_no_process(void **state)
{
	struct config *config = parse("/**");
	enum shunt_program program = 0;
	char *path = NULL;
	siginfo_t info;
	pid_t pid;

	pid = fork();
	if (!pid)
		_exit(0);
	/* Dead first, then gone. */
	assert_int_equal(waitid(P_PID, pid, &info, WEXITED | WNOWAIT), 0);
	assert_int_equal(program_classify(pid, config, &program, &path), -ESRCH);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	assert_int_equal(program_classify(pid, config, &program, &path), -ESRCH);
	assert_int_equal(program, 0);
	assert_null(path);
	config_free(config);
}

static void test_what_may_not_be_looked_at_is_not_classified(void **state)
{
	struct config *config = parse("");
	enum shunt_program program;
	char *path;
	int status;
	pid_t pid;

	if (geteuid())
		skip();
	pid = fork();
	if (!pid) {
		if (setresuid(NOBODY, NOBODY, NOBODY))
			_exit(1);
		_exit(program_classify(getppid(), config, &program, &path) == -EACCES ? 0 : 2);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	config_free(config);
}

static int give_up_reading(void)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];

	if (syscall(SYS_capget, &header, data))
		return -1;
	data[0].effective &= ~(1u << CAP_DAC_OVERRIDE | 1u << CAP_DAC_READ_SEARCH);
	return syscall(SYS_capset, &header, data);
}

static void test_a_file_that_cannot_be_read_is_suspect(void **state)
{
	static const struct shape shape = {
		.interpreter = true,
		.table = SHT_DYNSYM,
		.symbols = {"read"},
	};
	struct config *config = parse("/**/named");
	_cleanup_free_ char *path = NULL, *named = NULL;
	enum shunt_program program = 0;
	pid_t target, named_target, pid;
	int status;

	if (geteuid())
		skip();
	path = make_executable("unreadable", &shape);
	named = make_executable("named", &shape);
	assert_int_equal(chmod(path, 0111) ?: chown(path, NOBODY, NOBODY), 0);
	assert_int_equal(chmod(named, 0111) ?: chown(named, NOBODY, NOBODY), 0);
	target = start(path);
	named_target = start(named);
	pid = fork();
	if (!pid) {
		if (give_up_reading())
			_exit(1);
		if (program_classify(target, config, &program, &path) ||
		    program != SHUNT_PROGRAM_SUSPECT)
			_exit(2);
		if (program_classify(named_target, config, &program, &path) ||
		    program != SHUNT_PROGRAM_NEVER)
			_exit(3);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	stop(target);
	stop(named_target);
	config_free(config);
	assert_int_equal(status, 0);
}

static int make_directory(void **state)
{
	return mkdtemp(directory) ? 0 : -1;
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	return remove(path);
}

static int remove_directory(void **state)
{
	return nftw(directory, remove_entry, 4, FTW_DEPTH | FTW_PHYS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_real_program),
		cmocka_unit_test(test_what_an_executable_shows),
		cmocka_unit_test(test_what_claims_to_be_huge_is_not_read),
		cmocka_unit_test(test_what_was_unlinked_is_itself_still),
		cmocka_unit_test(test_no_process),
		cmocka_unit_test(test_what_may_not_be_looked_at_is_not_classified),
		cmocka_unit_test(test_a_file_that_cannot_be_read_is_suspect),
	};

	return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
