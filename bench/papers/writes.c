#define REQUEST_TYPE 1
#include "disk-guest.h"
