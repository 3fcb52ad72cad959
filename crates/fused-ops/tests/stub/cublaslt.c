/* A cuBLASLt that takes every product and computes none, beside cuda.c; STUB_LAUNCHES gets a line for each. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int something;

int cublasLtCreate(void **out) { *out = &something; return 0; }
int cublasLtDestroy(void *handle) { return 0; }
int cublasLtMatmulDescCreate(void **out, int compute, int scale) { *out = &something; return 0; }
int cublasLtMatmulDescDestroy(void *desc) { return 0; }
int cublasLtMatmulDescSetAttribute(void *desc, int attribute, const void *value, size_t size) { return 0; }
int cublasLtMatrixLayoutCreate(void **out, int type, uint64_t rows, uint64_t cols, int64_t apart) { *out = &something; return 0; }
int cublasLtMatrixLayoutDestroy(void *layout) { return 0; }
int cublasLtMatrixLayoutSetAttribute(void *layout, int attribute, const void *value, size_t size) { return 0; }
int cublasLtMatmulPreferenceCreate(void **out) { *out = &something; return 0; }
int cublasLtMatmulPreferenceDestroy(void *preference) { return 0; }
int cublasLtMatmulPreferenceSetAttribute(void *preference, int attribute, const void *value, size_t size) { return 0; }

/* cublasLtMatmulHeuristicResult_t: 64 bytes of algorithm, size_t, status, float, 4 ints. */
int cublasLtMatmulAlgoGetHeuristic(void *handle, void *desc, void *a, void *b, void *c, void *d, void *preference, int asked,
                                   void *results, int *found) {
  memset(results, 0, 96);
  *found = 1;
  return 0;
}

int cublasLtMatmul(void *handle, void *desc) {
  static FILE *launches;
  const char *path = getenv("STUB_LAUNCHES");
  if (path && !launches && (launches = fopen(path, "a"))) setvbuf(launches, NULL, _IOLBF, 0);
  if (launches) fprintf(launches, "cublasLtMatmul\n");
  return 0;
}

size_t cublasLtGetVersion(void) { return 130100; }
size_t cublasLtGetCudartVersion(void) { return 13000; }
const char *cublasLtGetStatusString(int status) { return "stub"; }
