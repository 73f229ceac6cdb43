"""The operations that there are to be, by AWS's names: one that goes missing fails a test."""

IOT = frozenset(
    {
        *("CreateStream", "DescribeStream", "UpdateStream", "DeleteStream", "ListStreams"),
        *("TagResource", "UntagResource", "ListTagsForResource", "DescribeEndpoint"),
        *("CreateThing", "DescribeThing", "UpdateThing", "DeleteThing", "ListThings"),
        *("CreateThingType", "DescribeThingType", "UpdateThingType", "ListThingTypes"),
        *("DeprecateThingType", "DeleteThingType"),
        *("CreateThingGroup", "DescribeThingGroup", "UpdateThingGroup", "DeleteThingGroup"),
        *("ListThingGroups", "AddThingToThingGroup", "RemoveThingFromThingGroup"),
        *("ListThingsInThingGroup", "ListThingGroupsForThing", "UpdateThingGroupsForThing"),
        *("CreateJob", "DescribeJob", "GetJobDocument", "UpdateJob", "ListJobs", "CancelJob"),
        *("DeleteJob", "AssociateTargetsWithJob", "DescribeJobExecution", "ListJobExecutionsForJob"),
        *("ListJobExecutionsForThing", "CancelJobExecution", "DeleteJobExecution"),
        *("CreateOTAUpdate", "GetOTAUpdate", "ListOTAUpdates", "DeleteOTAUpdate"),
    }
)
JOBS_DATA = frozenset(
    {
        *("DescribeJobExecution", "GetPendingJobExecutions"),
        *("StartNextPendingJobExecution", "UpdateJobExecution"),
    }
)
EVERY = {"iot": IOT, "iot-jobs-data": JOBS_DATA}
"""By the service's name in botocore."""
