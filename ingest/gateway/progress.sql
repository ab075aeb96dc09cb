-- How far the writers are in a topic ($1), one row a partition.
SELECT partition, epoch, next_offset FROM partition_offsets WHERE topic = $1
