/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What an executable says of how its program reads from sockets.
 * Reads from: /proc/PID/exe, the path and the file.
 * Writes to: nothing.
 */
#include "program.h"

#include <errno.h>
#include <fcntl.h>
#include <gelf.h>
#include <limits.h>
#include <string.h>

#include "util/cleanup.h"
#include "util/glob.h"

#define DELETED " (deleted)" /* the kernel's word behind the path of what was unlinked */

/* Whoever may run a program may also have it claim sections without number or end, in a file that
 * takes no room; the agent reads so many bytes of one, and one of each kind. */
#define SECTION_MAX (32 << 20)

static void cleanup_elf(Elf **elf)
{
	elf_end(*elf);
}

/* The path goes with the file that is open, whatever the process executes by now. */
static int program_read_path(int fd, char **ret)
{
	char link[64], path[PATH_MAX];
	size_t deleted = strlen(DELETED);
	ssize_t n;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, path, sizeof(path) - 1);
	if (n < 0)
		return -errno;
	path[n] = '\0';
	if ((size_t)n > deleted && !strcmp(path + n - deleted, DELETED))
		path[n - deleted] = '\0';
	*ret = strdup(path);
	return *ret ? 0 : -ENOMEM;
}

static bool program_is_named(const struct config_globs *globs, const char *path)
{
	for (size_t i = 0; i < globs->n; i++)
		if (glob_match(globs->items[i].pattern, path))
			return true;
	return false;
}

/* What is in a section, NULL if it is none of @type, or too large. */
static const Elf_Data *program_read_section(Elf_Scn *section, GElf_Word type)
{
	GElf_Shdr header;

	if (!section || !gelf_getshdr(section, &header) || header.sh_type != type ||
	    header.sh_size > SECTION_MAX)
		return NULL;
	return elf_getdata(section, NULL);
}

/* A string table that ends where its last string does. */
static const Elf_Data *program_read_strings(Elf *elf, size_t index)
{
	const Elf_Data *data = program_read_section(elf_getscn(elf, index), SHT_STRTAB);

	if (!data || !data->d_buf || !data->d_size || ((const char *)data->d_buf)[data->d_size - 1])
		return NULL;
	return data;
}

static const char *program_string(const Elf_Data *strings, size_t offset)
{
	return strings && offset < strings->d_size ? (const char *)strings->d_buf + offset : NULL;
}

/* @imported: only what comes from elsewhere. Which version of it does not matter. */
static bool program_has_symbol(const Elf_Data *symbols, const Elf_Data *strings, const char *name,
			       bool imported)
{
	GElf_Sym symbol;

	for (int i = 0; gelf_getsym((Elf_Data *)symbols, i, &symbol); i++) {
		const char *found = program_string(strings, symbol.st_name);

		if (found && !strcmp(found, name) && (!imported || symbol.st_shndx == SHN_UNDEF))
			return true;
	}
	return false;
}

/* Does a symbol table tell that there is no splice() in it? */
static bool program_is_innocent(Elf *elf, Elf_Scn *section, GElf_Word type, GElf_Word link,
				bool imported)
{
	const Elf_Data *symbols = program_read_section(section, type);
	const Elf_Data *strings = program_read_strings(elf, link);

	return symbols && strings && !program_has_symbol(symbols, strings, "splice", imported);
}

static bool program_has_interpreter(Elf *elf)
{
	GElf_Phdr segment;
	size_t n;

	if (elf_getphdrnum(elf, &n))
		return false;
	for (size_t i = 0; i < n; i++)
		if (gelf_getphdr(elf, i, &segment) && segment.p_type == PT_INTERP)
			return true;
	return false;
}

static enum shunt_program program_look_into(Elf *elf)
{
	/* Without a dynamic linker nothing is imported: its own symbols tell, if it kept them. */
	bool dynamic = program_has_interpreter(elf);
	GElf_Word table = dynamic ? SHT_DYNSYM : SHT_SYMTAB;
	bool sections = false, innocent = false;
	const Elf_Data *names;
	Elf_Scn *section = NULL;
	size_t index, tables = 0;
	GElf_Shdr header;

	if (elf_kind(elf) != ELF_K_ELF)
		return SHUNT_PROGRAM_SUSPECT;
	if (elf_getshdrstrndx(elf, &index))
		return SHUNT_PROGRAM_SPLICES;
	names = program_read_strings(elf, index);
	while ((section = elf_nextscn(elf, section))) {
		const char *name = NULL;

		if (gelf_getshdr(section, &header))
			name = program_string(names, header.sh_name);
		if (!name)
			continue;
		sections = true;
		if (!strcmp(name, ".go.buildinfo") || !strcmp(name, ".note.go.buildid"))
			return SHUNT_PROGRAM_SPLICES;
		if (header.sh_type == table && !tables++)
			innocent =
				program_is_innocent(elf, section, table, header.sh_link, dynamic);
	}
	/* Packed, for one: it may be a Go program as well. */
	if (!sections)
		return SHUNT_PROGRAM_SPLICES;
	return tables == 1 && innocent ? SHUNT_PROGRAM_FINE : SHUNT_PROGRAM_SUSPECT;
}

/* Are there no more headers than the fields that are made for it can say? libelf makes room for as
 * many as there are said to be. */
static bool program_is_bounded(int fd)
{
	union {
		unsigned char ident[EI_NIDENT];
		Elf32_Ehdr e32;
		Elf64_Ehdr e64;
	} header;

	if (pread(fd, &header, sizeof(header), 0) < (ssize_t)sizeof(header))
		return false;
	if (header.ident[EI_CLASS] == ELFCLASS32)
		return (header.e32.e_shnum || !header.e32.e_shoff) && header.e32.e_phnum != PN_XNUM;
	return (header.e64.e_shnum || !header.e64.e_shoff) && header.e64.e_phnum != PN_XNUM;
}

/* Interpreters that import splice(2) to offer it, and do not use it of themselves. A script that
 * does has to be named in splice_never. */
static bool program_offers(const char *path)
{
	return glob_match("/**/python3*", path);
}

static enum shunt_program program_look_at(int path_fd)
{
	_cleanup_(cleanup_elf) Elf *elf = NULL;
	_cleanup_close_ int fd = -1;
	char link[64];

	snprintf(link, sizeof(link), "/proc/self/fd/%d", path_fd);
	fd = open(link, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || elf_version(EV_CURRENT) == EV_NONE || !program_is_bounded(fd))
		return SHUNT_PROGRAM_SUSPECT;
	/* Not mapped: a file that is cut short meanwhile would be a SIGBUS. */
	elf = elf_begin(fd, ELF_C_READ, NULL);
	return program_look_into(elf);
}

int program_classify(uint32_t pid, const struct config *config, enum shunt_program *ret,
		     char **ret_path)
{
	_cleanup_free_ char *path = NULL;
	_cleanup_close_ int fd = -1;
	char link[64];
	int r;

	snprintf(link, sizeof(link), "/proc/%u/exe", pid);
	fd = open(link, O_PATH | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? -ESRCH : -errno;
	r = program_read_path(fd, &path);
	if (r)
		return r;
	*ret = program_is_named(&config->splice_never, path) ? SHUNT_PROGRAM_NEVER
							     : program_look_at(fd);
	if (*ret == SHUNT_PROGRAM_SUSPECT && program_offers(path))
		*ret = SHUNT_PROGRAM_FINE;
	*ret_path = TAKE_PTR(path);
	return 0;
}
