/* Only the symbols that the Python bindings of TensorRT need when they are imported: every factory returns
 * NULL, as the real ones do on a machine without a driver. The same source is libnvinfer.so.N, libnvinfer_plugin.so.N,
 * libnvonnxparser.so.N and, for 8.6, libnvparsers.so.8. */
#define RETURNS_NULL(function) void *function(void) { return 0; }

RETURNS_NULL(createInferBuilder_INTERNAL)
RETURNS_NULL(createInferRuntime_INTERNAL)
RETURNS_NULL(createInferRefitter_INTERNAL)
RETURNS_NULL(createNvOnnxParser_INTERNAL)
RETURNS_NULL(createNvOnnxParserRefitter_INTERNAL)
RETURNS_NULL(getPluginRegistry)
RETURNS_NULL(getBuilderPluginRegistry)

int getNvOnnxParserVersion(void) { return 0; }
unsigned char initLibNvInferPlugins(void *logger, const char *library_namespace) { return 1; }

/* 8.6: nvcaffeparser1::createCaffeParser, shutdownProtobufLibrary; nvuffparser::createUffParser, FieldMap */
RETURNS_NULL(_ZN14nvcaffeparser117createCaffeParserEv)
RETURNS_NULL(_ZN14nvcaffeparser123shutdownProtobufLibraryEv)
RETURNS_NULL(_ZN11nvuffparser15createUffParserEv)
RETURNS_NULL(_ZN11nvuffparser8FieldMapC1EPKcPKvNS_9FieldTypeEi)
