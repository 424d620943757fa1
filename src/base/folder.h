#ifndef LF_BASE_FOLDER_H
#define LF_BASE_FOLDER_H

/* Makes the name of the file at path, just made or renamed, survive a power cut. Some file systems and permissions forbid it; the
 * file is whole anyway. */
void lf_folder_sync(const char *path);

#endif
