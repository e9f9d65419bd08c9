/* SPDX-License-Identifier: MIT */
#ifndef FLOW_TWIN_DOCUMENTS_H
#define FLOW_TWIN_DOCUMENTS_H

/* The documents of the twin and their versions, four files; what they promise is in twin_files.h. */

#include "config/config.h"
#include "flow/twin_writes.h"
#include "fuse/tree.h"

struct twin_documents;

enum twin_document {
	TWIN_DOCUMENT_DESIRED,
	TWIN_DOCUMENT_REPORTED,
	TWIN_DOCUMENT_DESIRED_VERSION,
	TWIN_DOCUMENT_REPORTED_VERSION,
	TWIN_N_DOCUMENTS,
};

struct twin_documents_options {
	const struct twin_writes *writes; /* outlives the tree */
	struct fuse_node *parent;
	const struct config_access *twin_access;
	const struct config_access *reported_access; /* of reported.json */
};

/* Returns 0 or -ENOMEM. After an error @out may be there all the same. */
int twin_documents_new(struct twin_documents **out, const struct twin_documents_options *options);
/* After the nodes are gone. NULL is fine. */
void twin_documents_free(struct twin_documents *documents);

/* What is read from the beginning from now on is rendered anew; @notify: it reads differently, so who polls is told. */
void twin_documents_changed(struct twin_documents *documents, enum twin_document which, bool notify);

#endif
